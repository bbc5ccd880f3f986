"""Passes: Kernel -> Kernel, and `lower`, which runs them in order for a target.

canonicalize    fold, merge and remove: less to look at for all that follow
make_async      loads that feed products go through arefs: says what communicates
problems        each loop with rings as data: operations, dependences, units, slots
solve, check    the least interval of each loop, and an independent opinion
choose_depths   slots per ring and products in flight, within shared memory
specialize      a load and a compute group: says who runs what
canonicalize    each group again: the other group's values are gone
"""

from tilec.passes.canonicalize import canonicalize
from tilec.passes.make_async import make_async
from tilec.passes.pipeline import Options, Stages, lower

__all__ = ["Options", "Stages", "canonicalize", "lower", "make_async"]
