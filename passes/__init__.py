"""Passes: Kernel -> Kernel, and `lower`, which runs them in order for a target.

canonicalize    fold, merge and remove: less to look at for all that follow
join_bounds     two bounds of a mask become one comparison
make_async      loads that feed products go through arefs: says what communicates
split_rows      the rows in two parts, where two warp groups are to run the kernel
plan_kernel     each ring loop as a problem, its least interval and best plan, checked
specialize      a load group and compute groups that follow the plan: says who runs what
run_ahead       without TMA: one group, whose loops fill rings as far ahead as the plan says
canonicalize    each group again: the other group's values are gone
"""

from tilec.passes.canonicalize import canonicalize
from tilec.passes.make_async import make_async
from tilec.passes.pipeline import Options, Stages, lower

__all__ = ["Options", "Stages", "canonicalize", "lower", "make_async"]
