"""What each instruction does, in a few words, by the first parts of its opcode."""

from __future__ import annotations

import re

from tilec.ir.ptx.forms import Form

MEANINGS = {
    "mov": "copies a register, a constant or an address; packs and unpacks vectors",
    "cvta": "an address of a state space as a generic address, or back",
    "isspacep": "whether a generic address lies in a state space",
    "add": "sum", "sub": "difference", "mul": "product, or its lower or upper half",
    "addc": "sum with carry", "subc": "difference with borrow", "mad": "product plus a third operand",
    "madc": "product plus a third operand and the carry", "mul24": "product of 24-bit integers",
    "mad24": "product of 24-bit integers plus a third operand", "div": "quotient", "rem": "remainder",
    "sad": "absolute difference plus a third operand", "min": "least operand", "max": "largest operand",
    "abs": "absolute value", "neg": "negative", "dp4a": "dot product of 4 bytes, plus a third operand",
    "dp2a": "dot product of 2 halves with 2 bytes, plus a third operand", "and": "bitwise and",
    "or": "bitwise or", "xor": "bitwise exclusive or", "not": "bitwise complement",
    "cnot": "1 if the operand is 0, else 0", "shl": "left shift", "shr": "right shift",
    "shf": "shift of a register pair", "bfe": "extracts a bit field", "bfi": "inserts a bit field",
    "bfind": "position of the highest bit that differs from the sign", "bmsk": "a mask of consecutive bits",
    "fns": "the n-th set bit", "popc": "number of set bits", "clz": "number of leading zeros",
    "brev": "bits in reverse order", "prmt": "picks bytes of a register pair",
    "lop3": "any bitwise function of three operands", "szext": "sign or zero extension from a bit on",
    "selp": "one of two operands, by a predicate", "slct": "one of two operands, by a sign",
    "setp": "comparison, into predicates", "set": "comparison, into a register",
    "fma": "product plus a third operand, rounded once", "copysign": "a magnitude with another's sign",
    "testp": "class of a float", "rcp": "reciprocal", "sqrt": "square root",
    "rsqrt": "reciprocal square root", "sin": "sine", "cos": "cosine", "lg2": "base-2 logarithm",
    "ex2": "power of 2", "tanh": "hyperbolic tangent", "cvt": "conversion",
    "cvt.pack": "saturates two integers and packs them", "ld": "load", "ldu": "load of uniform data",
    "st": "store", "prefetch": "hint to load into a cache", "prefetchu": "hint to load into a cache",
    "applypriority": "hint: priority in the cache", "discard": "hint: the data are no longer needed",
    "createpolicy": "makes a cache policy", "ldmatrix": "loads 8x8 matrices into fragments",
    "stmatrix": "stores fragments as 8x8 matrices", "movmatrix": "transposes a matrix across a warp",
    "atom": "atomic update that returns the old value", "red": "atomic update",
    "mapa": "the address of a variable in another CTA of the cluster",
    "getctarank": "the rank of the CTA that an address belongs to",
    "st.bulk": "fills shared memory with zeros",
    "st.async": "store that completes on an mbarrier or is a release",
    "red.async": "update that completes on an mbarrier or is a release", "bra": "branch",
    "brx": "branch by a table", "ret": "return", "exit": "ends the thread", "call": "calls a function",
    "trap": "stops with an error", "brkpt": "breakpoint", "nanosleep": "sleeps",
    "pmevent": "performance event", "griddepcontrol": "programmatic dependent launch",
    "setmaxnreg": "changes the registers of a warpgroup's threads",
    "shfl": "moves a value between lanes", "vote": "votes of a warp on a predicate",
    "match": "lanes with equal values", "activemask": "lanes that run together",
    "redux": "reduction over a warp", "elect": "chooses one lane", "bar": "barrier of a CTA",
    "bar.warp": "barrier of lanes", "barrier": "barrier of a CTA",
    "barrier.cluster": "barrier of a cluster", "membar": "memory fence", "fence": "memory fence",
    "fence.proxy": "fence between proxies", "membar.proxy": "fence between proxies",
    "fence.mbarrier_init": "makes initialised mbarriers visible to the cluster",
    "mbarrier": "arrives at an mbarrier, or changes its transaction count",
    "mbarrier.init": "makes an mbarrier", "mbarrier.inval": "ends an mbarrier",
    "mbarrier.test_wait": "whether a phase is over", "mbarrier.try_wait": "waits a while for a phase to end",
    "mbarrier.pending_count": "arrivals that a phase lacks", "cp.async": "copy from global to shared memory",
    "cp.async.commit_group": "ends a group of copies", "cp.async.wait_group": "waits for groups of copies",
    "cp.async.wait_all": "waits for all copies",
    "cp.async.mbarrier": "arrives at an mbarrier when the thread's copies are done",
    "cp.async.bulk": "bulk copy", "cp.async.bulk.tensor": "copy of a box of a tensor",
    "cp.async.bulk.prefetch": "hint to load into L2",
    "cp.async.bulk.commit_group": "ends a group of bulk stores",
    "cp.async.bulk.wait_group": "waits for groups of bulk stores", "cp.reduce": "bulk reduction in memory",
    "tensormap.replace": "changes a field of a tensor map",
    "tensormap.cp_fenceproxy": "copies a tensor map to global memory, and fences",
    "clusterlaunchcontrol.try_cancel": "takes over a cluster that has not started",
    "clusterlaunchcontrol.query_cancel": "decodes the answer of try_cancel",
    "wgmma.mma_async": "matrix product of a warpgroup", "wgmma.fence": "orders registers before products",
    "wgmma.commit_group": "ends a group of products", "wgmma.wait_group": "waits for groups of products",
    "mma": "matrix product of a warp", "wmma.load": "loads a matrix fragment",
    "wmma.store": "stores a matrix fragment", "wmma.mma": "matrix product of a warp",
    "tcgen05.alloc": "allocates columns of tensor memory",
    "tcgen05.dealloc": "frees columns of tensor memory",
    "tcgen05.relinquish_alloc_permit": "promises not to allocate again",
    "tcgen05.ld": "loads tensor memory into registers", "tcgen05.st": "stores registers into tensor memory",
    "tcgen05.wait": "waits for the thread's loads or stores of tensor memory",
    "tcgen05.mma": "matrix product into tensor memory", "tcgen05.cp": "copy from shared to tensor memory",
    "tcgen05.shift": "moves rows of tensor memory down",
    "tcgen05.commit": "arrives at an mbarrier when the products before are done",
    "tcgen05.fence": "orders tcgen05 operations with barriers",
}  # fmt: skip


def heads(form: Form) -> tuple[str, ...]:
    """The opcodes of a row up to the part that varies: ``add`` and ``sub`` of (add|sub).s32."""
    found = re.match(r"\(([a-z0-9_.|]+)\)([a-z0-9_.]*)", form.pattern)
    if found:
        return tuple(f"{first}{found[2]}".rstrip(".") for first in found[1].split("|"))
    return (re.split(r"[(<]", form.pattern, maxsplit=1)[0].rstrip(".:"),)


def meaning(opcode: str) -> str:
    """The entry of the longest first parts of an opcode."""
    parts = opcode.split(".")
    for count in range(len(parts), 0, -1):
        found = MEANINGS.get(".".join(parts[:count]))
        if found:
            return found
    return ""
