"""PTX data -> text. Deterministic: the same module gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

from tilec.ir.ptx.module import (
    Addr,
    Args,
    BranchTargets,
    Comment,
    Directive,
    Entry,
    EntryParam,
    FileDirective,
    Float,
    Function,
    Instruction,
    Int,
    Item,
    Label,
    LocDirective,
    Module,
    Not,
    Operand,
    Pair,
    Prototype,
    Reg,
    RegDecl,
    Scope,
    Section,
    Statement,
    Sym,
    Var,
    Vec,
)

_COMMENT_COLUMN = 56


def print_module(module: Module) -> str:
    """The text of a module; ``parse(print_module(m)) == m`` but for comments."""
    major, minor = module.version
    head = f".version {major}.{minor}\n.target {module.target}\n.address_size {module.address_size}\n"
    return head + "".join(f"\n{_item(item)}\n" for item in module.items)


def operand_text(operand: Operand) -> str:
    """The text of one operand."""
    match operand:
        case Reg(name):
            return name
        case Sym(name, offset):
            return f"{name}{offset:+d}" if offset else name
        case Int(value):
            return str(value)
        case Float(bits, width):
            return f"0f{bits:08X}" if width == 32 else f"0d{bits:016X}"
        case Addr():
            return _address(operand)
        case Vec(items):
            return "{" + ", ".join(map(operand_text, items)) + "}"
        case Args(items):
            return "(" + ", ".join(map(operand_text, items)) + ")"
        case Pair(first, second):
            return f"{operand_text(first)}|{operand_text(second)}"
        case Not(reg):
            return f"!{reg.name}"


def _address(addr: Addr) -> str:
    text = operand_text(addr.base)
    if addr.offset:
        text += f"+{addr.offset}"
    if addr.coords is not None:
        text += ", {" + ", ".join(map(operand_text, addr.coords)) + "}"
    return f"[{text}]"


def instruction_text(instruction: Instruction) -> str:
    """The text of one instruction without indentation and comment."""
    guard = ""
    if instruction.pred is not None:
        guard = f"@{'!' if instruction.pred.negated else ''}{instruction.pred.reg.name} "
    operands = ", ".join(map(operand_text, instruction.operands))
    return f"{guard}{instruction.opcode}{' ' + operands if operands else ''};"


def _item(item: Item) -> str:
    match item:
        case Entry():
            return _entry(item)
        case Function():
            return _function(item)
        case Directive(text):
            return f"{text};"
        case Var():
            return _var(item)
        case FileDirective(index, name):
            return f'.file {index} "{name}"'
        case Section(name, text):
            return f".section {name}\n{{\n{text}\n}}"
        case Comment(text):
            return f"// {text}"


def _entry(entry: Entry) -> str:
    params = ",\n".join(f"    {_param(p)}" for p in entry.params)
    directives = "".join(
        f"\n.{name} {', '.join(map(str, values))}".rstrip() for name, values in entry.directives
    )
    body = "\n".join(line for statement in entry.body for line in _statement(statement, 1))
    listed = f"\n{params}\n" if params else ""
    return f".visible .entry {entry.name}({listed}){directives}\n{{\n{body}\n}}"


def _function(function: Function) -> str:
    head = "".join(f".{word} " for word in function.linkage) + ".func "
    if function.results:
        head += f"({', '.join(map(_param, function.results))}) "
    head += f"{function.name}({', '.join(map(_param, function.params))})"
    head += f"\n{function.directives}" if function.directives else ""
    if function.body is None:
        return f"{head};"
    body = "\n".join(line for statement in function.body for line in _statement(statement, 1))
    return f"{head}\n{{\n{body}\n}}"


def _param(param: EntryParam) -> str:
    ptr = "" if not param.ptr else " .ptr" if param.ptr == "generic" else f" .ptr .{param.ptr}"
    align = f" .align {param.align}" if param.align else ""
    count = "" if param.count is None else f"[{param.count}]"
    return (
        f".{param.space}{'' if ptr else align} .{param.type}{ptr}{align if ptr else ''} {param.name}{count}"
    )


def _var(var: Var) -> str:
    extern = ".extern " if var.extern else ""
    align = f" .align {var.align}" if var.align else ""
    count = "" if var.count is None else "[]" if var.count < 0 else f"[{var.count}]"
    init = ""
    if var.init:
        values = ", ".join(v if isinstance(v, str) else _initial(v) for v in var.init)
        init = f" = {{{values}}}" if var.count is not None else f" = {values}"
    return f"{extern}.{var.space}{align} .{var.type} {var.name}{count}{init};"


def _initial(value: int | Float) -> str:
    return operand_text(value) if isinstance(value, Float) else str(value)


def _statement(statement: Statement, depth: int) -> Iterator[str]:
    pad = "    " * depth
    match statement:
        case Instruction():
            yield _commented(pad + instruction_text(statement), statement.comment)
        case Label(name):
            yield f"{name}:"
        case RegDecl(type_, name, count):
            yield f"{pad}.reg .{type_} {name}{f'<{count}>' if count else ''};"
        case Var():
            yield pad + _var(statement)
        case LocDirective(file, line, col, inlined, comment):
            yield _commented(f"{pad}.loc {file} {line} {col}{', ' + inlined if inlined else ''}", comment)
        case BranchTargets(label, targets):
            yield f"{label}: .branchtargets {', '.join(targets)};"
        case Prototype(label, text):
            yield f"{label}: {text};"
        case Directive(text):
            yield f"{pad}{text};"
        case Comment(text):
            yield f"{pad}// {text}"
        case Scope(body):
            yield f"{pad}{{"
            for inner in body:
                yield from _statement(inner, depth + 1)
            yield f"{pad}}}"


def _commented(text: str, comment: str) -> str:
    return f"{text:<{_COMMENT_COLUMN}}// {comment}" if comment else text
