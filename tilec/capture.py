"""The source rewrite: run-time `if`, `for` and `while` become calls that build regions.

Each statement stays in place and in order, so line numbers, closures and tracebacks
are the user's own. What a statement is (Python's or run-time) is decided when it is
reached, by the value of its condition or iterable. `tilec.branches` and
`tilec.loops` have the objects that the rewritten code talks to:

    if c: A                 s = _tilec.If(c, names, _tilec.locals())
    else: B                 if s.then: A
                            if s.live: s.middle(locals()); x = s.get("x") ...
                            if s.other: B
                            if s.live: s.end(locals()); x = s.get("x") ...

    for i in r: A           s = _tilec.For(r, names, locals())
                            for i in s:
                                if s.live: x = s.get("x") ...
                                A
                                if s.live: s.leave(locals())
                            if s.live: x = s.get("x") ...

`x = s.get("x")` is followed by `if x is _tilec.UNBOUND: del x`. A `return` inside of
an `if` moves the statements after the `if` into the branch that does not return.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Sequence

from tilec.ir.errors import TilecSyntaxError
from tilec.ir.loc import Loc

RUNTIME = "_tilec"
RESULT = "_tilec_result"

_REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Try: ("try", "a kernel raises nothing at run time: drop the try"),
    ast.With: ("with", "do it outside of the kernel"),
    ast.AsyncFor: ("async for", "use for ... in tl.range(...)"),
    ast.AsyncWith: ("async with", "do it outside of the kernel"),
    ast.AsyncFunctionDef: ("async def", "write a plain function"),
    ast.Await: ("await", "a kernel cannot wait for the host"),
    ast.Yield: ("yield", "write results with tl.store"),
    ast.YieldFrom: ("yield from", "write results with tl.store"),
    ast.Global: ("global", "pass the value as an argument, write results with tl.store"),
    ast.Nonlocal: ("nonlocal", "return the new value from the function and assign it"),
    ast.ClassDef: ("class", "define the class outside of the kernel"),
    ast.Match: ("match", "use if and elif"),
}
if hasattr(ast, "TryStar"):
    _REFUSED[ast.TryStar] = ("try", "a kernel raises nothing at run time: drop the try")


def refused(node: ast.FunctionDef) -> tuple[ast.AST, str, str] | None:
    """The first part that cannot be captured, its name and what to do instead."""
    for part in ast.walk(node):
        if type(part) in _REFUSED:
            return (part, *_REFUSED[type(part)])
    return None


def rewrite(node: ast.FunctionDef, file: str) -> ast.FunctionDef:
    """A captured copy of the function; decorators, annotations and defaults are dropped."""
    node = copy.deepcopy(node)
    node.decorator_list = []
    return ast.fix_missing_locations(_Rewriter(file, node.name).function(node))


def syntax_error(
    code: str, message: str, help: str, node: ast.AST, file: str, function: str
) -> TilecSyntaxError:
    """An error at a node of the source."""
    line, col = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
    same_line = getattr(node, "end_lineno", line) == line
    end = getattr(node, "end_col_offset", col) if same_line else 10_000
    return TilecSyntaxError(code, message, help=help, loc=Loc(file, line, col, end, function))


# Small builders; every new node takes the place of ``at`` in the source.


def _name(name: str, at: ast.AST, ctx: ast.expr_context | None = None) -> ast.Name:
    return ast.copy_location(ast.Name(name, ctx or ast.Load()), at)


def _attr(owner: str, name: str, at: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Attribute(_name(owner, at), name, ast.Load()), at)


def _call(owner: str, name: str, args: Sequence[ast.expr], at: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Call(_attr(owner, name, at), list(args), []), at)


def _const(value: object, at: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Constant(value), at)  # type: ignore[arg-type]


def _locals(at: ast.AST) -> ast.expr:
    return _call(RUNTIME, "locals", [], at)


def _names(names: Iterable[str], at: ast.AST) -> ast.expr:
    items = [_const(n, at) for n in names]
    return ast.copy_location(ast.Tuple(items, ast.Load()), at)


def _assign(name: str, value: ast.expr, at: ast.AST) -> ast.stmt:
    return ast.copy_location(ast.Assign([_name(name, at, ast.Store())], value), at)


def _expr(value: ast.expr, at: ast.AST) -> ast.stmt:
    return ast.copy_location(ast.Expr(value), at)


def _if(test: ast.expr, body: list[ast.stmt], at: ast.AST) -> ast.stmt:
    return ast.copy_location(ast.If(test, body, []), at)


def _thunk(value: ast.expr) -> ast.expr:
    empty = ast.arguments([], [], None, [], [], None, [])
    return ast.copy_location(ast.Lambda(empty, value), value)


def _get(state: str, names: Sequence[str], at: ast.AST) -> list[ast.stmt]:
    """Take the names' values from the state; a name without a value is deleted."""
    out: list[ast.stmt] = []
    for name in names:
        out.append(_assign(name, _call(state, "get", [_const(name, at)], at), at))
        missing = ast.Compare(_name(name, at), [ast.Is()], [_attr(RUNTIME, "UNBOUND", at)])
        delete = ast.copy_location(ast.Delete([_name(name, at, ast.Del())]), at)
        out.append(_if(ast.copy_location(missing, at), [delete], at))
    return out


class _Bound(ast.NodeVisitor):
    """Names bound by statements, not looking into inner scopes."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self.names[node.id] = None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.names[node.name] = None

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass

    def visit_alias(self, node: ast.alias) -> None:
        self.names[(node.asname or node.name).split(".")[0]] = None

    def _comprehension(self, node: ast.AST) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.NamedExpr):
                self.names[part.target.id] = None

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension


def bound_names(nodes: Iterable[ast.AST]) -> list[str]:
    """The names that these statements bind, in order of appearance."""
    visitor = _Bound()
    for node in nodes:
        visitor.visit(node)
    return list(visitor.names)


def _returns(stmts: Iterable[ast.stmt]) -> bool:
    """Is there a return in these statements or their branches (not in loops)?"""
    return any(
        isinstance(s, ast.Return) or (isinstance(s, ast.If) and (_returns(s.body) or _returns(s.orelse)))
        for s in stmts
    )


def _leaves(stmts: Sequence[ast.stmt]) -> bool:
    """Do these statements always end in a return or raise?"""
    if not stmts:
        return False
    last = stmts[-1]
    if isinstance(last, ast.If):
        return _leaves(last.body) and _leaves(last.orelse)
    return isinstance(last, ast.Return | ast.Raise)


def join_returns(stmts: list[ast.stmt], at: ast.stmt) -> list[ast.stmt]:
    """Statements that assign the result instead of returning out of a branch."""
    for i, s in enumerate(stmts):
        if isinstance(s, ast.Return):
            value = s.value or _const(None, s)
            return [*stmts[:i], _assign(RESULT, value, s)]
        if isinstance(s, ast.If) and (_returns(s.body) or _returns(s.orelse)):
            rest = stmts[i + 1 :]
            body, orelse = (
                join_returns(b if _leaves(b) else [*b, *copy.deepcopy(rest)], s) for b in (s.body, s.orelse)
            )
            return [*stmts[:i], ast.copy_location(ast.If(s.test, body, orelse), s)]
    if _leaves(stmts):
        return stmts
    return [*stmts, _assign(RESULT, _const(None, at), at)]


class _Rewriter(ast.NodeTransformer):
    """Rewrites one function; nested functions get a rewriter of their own."""

    def __init__(self, file: str, function: str, count: list[int] | None = None) -> None:
        self.file, self.name = file, function
        self.count = count if count is not None else [0]
        self.loops: list[str] = []

    def state(self) -> str:
        """A fresh name for a statement's object."""
        self.count[0] += 1
        return f"_tilec_{self.count[0]}"

    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Rewrite the body; the node is changed."""
        self._strip(node)
        body = node.body
        if any(isinstance(s, ast.If) and _returns([s]) for s in body):
            at = body[0]
            body = [*join_returns(body, at), ast.copy_location(ast.Return(_name(RESULT, at)), at)]
        entry = _assign("_tilec_depth", _call(RUNTIME, "depth", [], body[0]), body[0])
        node.body = [entry, *self.block(body)]
        return node

    def _strip(self, node: ast.FunctionDef) -> None:
        node.returns = None
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        for arg in every + [a for a in (arguments.vararg, arguments.kwarg) if a]:
            arg.annotation = None

    def block(self, stmts: Iterable[ast.stmt]) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for s in stmts:
            new = self.visit(s)
            out.extend(new if isinstance(new, list) else [new])
        return out

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        inner = _Rewriter(self.file, node.name, self.count)
        node.args.defaults = [self.visit(d) for d in node.args.defaults]
        node.args.kw_defaults = [self.visit(d) if d else None for d in node.args.kw_defaults]
        node.decorator_list = [
            *(self.visit(d) for d in node.decorator_list), _attr(RUNTIME, "captured", node.body[0])
        ]  # fmt: skip
        return inner.function(node)

    def visit_If(self, node: ast.If) -> list[ast.stmt]:
        at, s = node.test, self.state()
        names = bound_names([*node.body, *node.orelse])
        test = self.visit(node.test)
        both = [n for n in bound_names(node.body) if n in bound_names(node.orelse)]
        opened = _call(RUNTIME, "If", [test, _names(names, at), _names(both, at), _locals(at)], at)
        out = [_assign(s, opened, at), _if(_attr(s, "then", at), self.block(node.body), at)]
        out.append(_if(_attr(s, "live", at), self._swap(s, "middle", names, at), at))
        if node.orelse:
            out.append(_if(_attr(s, "other", at), self.block(node.orelse), at))
        out.append(_if(_attr(s, "live", at), self._swap(s, "end", names, at), at))
        return out

    def _swap(self, s: str, method: str, names: Sequence[str], at: ast.AST) -> list[ast.stmt]:
        return [_expr(_call(s, method, [_locals(at)], at), at), *_get(s, names, at)]

    def visit_For(self, node: ast.For) -> list[ast.stmt]:
        at, s = node.iter, self.state()
        target = bound_names([node.target])
        names = [n for n in bound_names(node.body) if n not in target]
        args = [self.visit(node.iter), _names(names, at), _names(target, at), _locals(at),
                _const(bool(node.orelse), at)]  # fmt: skip
        out: list[ast.stmt] = [_assign(s, _call(RUNTIME, "For", args, at), at)]
        self.loops.append(s)
        body = self.block(node.body)
        self.loops.pop()
        enter = _if(_attr(s, "live", at), _get(s, names, at) or [ast.copy_location(ast.Pass(), at)], at)
        leave = _if(_attr(s, "live", at), [_expr(_call(s, "leave", [_locals(at)], at), at)], at)
        loop = ast.For(self.visit(node.target), _name(s, at), [enter, *body, leave], self.block(node.orelse))
        out.append(ast.copy_location(loop, node))
        out.append(_if(_attr(s, "live", at), _get(s, [*names, *target], at), at))
        return out

    def visit_While(self, node: ast.While) -> list[ast.stmt]:
        at, s = node.test, self.state()
        self._no_walrus(node.test, "the condition of while")
        names = bound_names(node.body)
        args = [_names(names, at), _locals(at), _const(bool(node.orelse), at)]
        out = [_assign(s, _call(RUNTIME, "While", args, at), at)]
        self.loops.append(s)
        body = self.block(node.body)
        self.loops.pop()
        test = _expr(_call(s, "test", [self.visit(node.test)], at), at)
        stop = _if(_attr(s, "stop", at), [ast.copy_location(ast.Break(), at)], at)
        leave = _expr(_call(s, "leave", [_locals(at)], at), at)
        inner = [*_get(s, names, at), test, *_get(s, names, at), stop, *body, leave]
        turn = _call(s, "turn", [_locals(at)], at)
        out.append(ast.copy_location(ast.While(turn, inner, []), node))
        if names:
            out.append(_if(_attr(s, "live", at), _get(s, names, at), at))
        if node.orelse:
            out.append(_if(_attr(s, "stop", at), self.block(node.orelse), at))
        return out

    def visit_Break(self, node: ast.Break) -> list[ast.stmt]:
        return [_expr(_call(self.loops[-1], "jump", [_const("break", node)], node), node), node]

    def visit_Continue(self, node: ast.Continue) -> list[ast.stmt]:
        return [_expr(_call(self.loops[-1], "jump", [_const("continue", node)], node), node), node]

    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:
        self.generic_visit(node)
        check = _call(RUNTIME, "returning", [_name("_tilec_depth", node)], node)
        return [_expr(check, node), node]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        func = _call(RUNTIME, "call", [node.func], node.func)
        return ast.copy_location(ast.Call(func, node.args, node.keywords), node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self._no_walrus(node.body, "a conditional expression")
        self._no_walrus(node.orelse, "a conditional expression")
        self.generic_visit(node)
        return _call(RUNTIME, "choose", [node.test, _thunk(node.body), _thunk(node.orelse)], node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        for value in node.values[1:]:
            self._no_walrus(value, "and/or")
        self.generic_visit(node)
        name = "both" if isinstance(node.op, ast.And) else "either"
        return _call(RUNTIME, name, [node.values[0], *map(_thunk, node.values[1:])], node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not):
            return _call(RUNTIME, "negate", [node.operand], node)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) == 1:
            return node
        for value in node.comparators[1:]:
            self._no_walrus(value, "a chained comparison")
        steps = []
        for op, right in zip(node.ops, node.comparators, strict=True):
            pair = ast.Compare(_name("_tilec_a", right), [op], [_name("_tilec_b", right)])
            two = [ast.copy_location(ast.arg(n), right) for n in ("_tilec_a", "_tilec_b")]
            compare = ast.Lambda(
                ast.arguments([], two, None, [], [], None, []), ast.copy_location(pair, node)
            )
            items = [_thunk(right), ast.copy_location(compare, node)]
            steps.append(ast.copy_location(ast.Tuple(items, ast.Load()), node))
        return _call(RUNTIME, "chain", [node.left, *steps], node)

    def _no_walrus(self, node: ast.AST, where: str) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.NamedExpr):
                raise syntax_error(
                    "S301", f":= inside {where} cannot be captured", "assign the name in a line before",
                    part, self.file, self.name,
                )  # fmt: skip
