"""Solve the loops of the example kernels again and write what the package ships: passes/schedule/proofs/.

python .ci/proofs.py: run it when costs, goals or the examples change; tests say when it is due.
"""

from __future__ import annotations

from pathlib import Path

from tilec.bench_compile.cases import CASES
from tilec.load import load_kernel
from tilec.passes import lower
from tilec.passes.schedule import proofs
from tilec.passes.schedule.joint import RLIMIT

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "passes" / "schedule" / proofs.SHIPPED
ATTENTION = ",".join(["f16[4]"] * 4)
HEADS = (("D=64",), ("D=128",), ("D=256", "BN=64"))
# Kernel, signature, constants, target.
KERNELS = (
    ("gemm.py:gemm", "f16[2],f16[2],f16[2]", (), "sm_90a"),
    ("persistent_gemm.py:persistent_gemm", "f16[2],f16[2],f16[2]", (), "sm_90a"),
    *(
        ("attention.py:attention", ATTENTION, (*head, f"causal={causal}"), "sm_90a")
        for head in HEADS
        for causal in (False, True)
    ),
)


class Folder:
    """A shelf that writes to the folder and remembers what it wrote."""

    def __init__(self) -> None:
        self.written: set[Path] = set()

    def get(self, key: str) -> bytes | None:
        return None

    def put(self, key: str, data: bytes) -> None:
        path = FOLDER / f"{key.removesuffix(f'-{RLIMIT}')}.json"
        if proofs.complete(data):
            path.write_bytes(data)
            self.written.add(path)


def main() -> None:
    """Write all of them, and delete what no kernel needs."""
    proofs.SHIPPED = "none"  # nothing that is there is read
    FOLDER.mkdir(exist_ok=True)
    folder = Folder()
    with proofs.kept_on(folder):
        for spec, signature, constants, target in KERNELS:
            lower(load_kernel(str(ROOT / "examples" / spec), signature, constants), target)
            print(spec, constants, len(folder.written))
        for name, case in CASES.items():
            lower(case.kernel.trace(case.signature, **case.constants), "sm_90a")
            print(name, len(folder.written))
    for path in set(FOLDER.glob("*.json")) - folder.written:
        path.unlink()


if __name__ == "__main__":
    main()
