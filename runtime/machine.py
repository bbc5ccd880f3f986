"""LLVM IR to machine code of this process, kept on disk for the next process."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from tilec.ir.errors import InternalError
from tilec.runtime.cache import Cache, key_of
from tilec.runtime.config import config

_lock = threading.Lock()


class Code:
    """Machine code in memory; it lives as long as this object."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def address(self, name: str) -> int:
        """Where a function begins."""
        return int(self._engine.get_function_address(name))


def compile_text(text: str) -> Code:
    """Compile LLVM IR for this host, or take its object code from the cache.

    Object code is keyed by the text, the host's features and LLVM's version.
    Raises InternalError where LLVM refuses the text.
    """
    settings = config()
    store = Cache(settings.cache_dir) if settings.cache else None
    key = key_of({"object": text, "host": host_features(), "llvm": _versions()})
    with _lock:
        machine = target_machine()
        found = store.get(key) if store is not None else None
        if found is None or "code.o" not in found:
            found = {"code.o": _object(text, machine)}
            if store is not None:
                store.put(key, found)
        return Code(_loaded(found["code.o"], machine))


def _object(text: str, machine: Any) -> bytes:
    module = parse(text)
    optimise(module, machine)
    made: bytes = machine.emit_object(module)
    return made


def _loaded(code: bytes, machine: Any) -> Any:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


@cache
def host_features() -> str:
    """Name and features of the host's CPU, as LLVM says them."""
    features = llvm.get_host_cpu_features()
    # LLVM prefers half-width vectors on some CPUs of the full width; the backend chose its own.
    text = ",".join(t for t in (features.flatten(), "-prefer-256-bit") if t)
    return f"{llvm.get_host_cpu_name()} {text}"


@cache
def _versions() -> str:
    return f"{llvmlite.__version__} {'.'.join(map(str, llvm.llvm_version_info))}"


def target_machine() -> Any:
    """A target machine for this host. An engine frees its machine: each needs its own."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, _, features = host_features().partition(" ")
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=name, features=features, opt=3, jit=True)


def parse(text: str) -> Any:
    """LLVM IR as a verified module."""
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise InternalError("X250", f"LLVM refuses the code: {error}") from None
    return module


def optimise(module: Any, machine: Any) -> None:
    """LLVM's passes that simplify a function, once over each, in place.

    The backend writes vectors and register blocks itself. LLVM's own vectorisers and unrolling,
    inlining, and another round over what was inlined take two thirds of the usual passes' time
    and change no measured speed.
    """
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    passes = builder.getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)
