"""One cold compilation in a process of its own: `python -m tilec.bench_compile.once MAKER KERNEL OUTPUT`.

Prints the seconds from the call until the text or the machine code is there. What a user has
imported anyway is imported before; caches on disk are empty or off.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any


def ours(name: str, output: str) -> Callable[[], object]:
    """Compile with tilec and an empty cache; the proofs that ship with it are read."""
    os.environ["TILEC_CACHE_DIR"] = tempfile.mkdtemp()
    import tilec.backends.ptx
    import tilec.driver  # noqa: F401
    from tilec.bench_compile.cases import CASES
    from tilec.runtime import toolchain

    case = CASES[name]

    def run() -> object:
        text = case.kernel.compile(case.signature, target="sm_90a", **case.constants).asm["ptx"]
        return text if output == "ptx" else toolchain.assemble(text, "sm_90a").cubin

    return run


def tritons(name: str, output: str) -> Callable[[], object]:
    """Compile with Triton into an empty cache; for "ptx" its last step, the assembler, is left out."""
    from triton.backends.nvidia.compiler import CUDABackend  # type: ignore[import-not-found]

    from tilec.bench_compile.triton_kernels import BESIDE_TRITON

    if output == "ptx":
        CUDABackend.make_cubin = lambda self, src, *rest: b""
    run = compiled(BESIDE_TRITON[name])
    return lambda: run().asm[output]


def compiled(case: Any) -> Callable[[], Any]:
    """Compile a `triton_kernels.Case` into an empty cache. Pointers and integers are multiples of 16."""
    os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp()
    import triton  # type: ignore[import-not-found]
    from triton.backends.compiler import GPUTarget  # type: ignore[import-not-found]
    from triton.compiler import ASTSource  # type: ignore[import-not-found]

    def run() -> Any:
        names = list(enumerate(case.kernel.arg_names))
        constants = {(i,): case.constants[n] for i, n in names if n in case.constants}
        types = {n: case.types.get(n, "constexpr") for _, n in names}
        whole = [i for i, n in names if n in case.types and not case.types[n].startswith("fp")]
        attributes = {(i,): [["tt.divisibility", 16]] for i in whole}
        source = ASTSource(fn=case.kernel, signature=types, constexprs=constants, attrs=attributes)
        return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(case.options))

    return run


def main() -> None:
    """Print the seconds of one compilation."""
    maker, name, output = sys.argv[1:]
    run = (ours if maker == "tilec" else tritons)(name, output)
    start = time.perf_counter()
    run()
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
