"""Machine tables by target. To add a machine, write a table and list it here."""

from __future__ import annotations

from tilec.passes.schedule.machines.a100 import A100
from tilec.passes.schedule.machines.b200 import B200
from tilec.passes.schedule.machines.h100 import H100
from tilec.passes.schedule.machines.table import Copy, Host, Machine, Product, limits

__all__ = ["A100", "B200", "H100", "MACHINES", "Copy", "Host", "Machine", "Product", "limits"]

MACHINES: dict[str, Machine] = {m.name: m for m in (A100, H100, B200)}
