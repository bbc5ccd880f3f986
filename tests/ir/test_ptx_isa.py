"""The instruction table: no two rows contradict, and the assembler knows every form."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tilec.ir.errors import InternalError, UnsupportedError
from tilec.ir.loc import Loc
from tilec.ir.ptx import Builder, addr, tensor_addr
from tilec.ir.ptx.forms import MACROS
from tilec.ir.ptx.isa import FORMS, check, forms_of, target_has
from tilec.ir.ptx.module import Instruction, Pair
from tilec.runtime.toolchain import assemble, find, parse_messages


def alternatives(pattern: str) -> list[str]:
    """Opcodes of a pattern in which every alternative occurs at least once."""
    text = re.sub(r"<(\w+)>", lambda m: MACROS[m[1]], pattern)
    choices = _split(text)
    longest = max((len(c) for c in choices), default=1)
    return list(dict.fromkeys("".join(c[i % len(c)] for c in choices) for i in range(longest)))


def _split(text: str) -> list[list[str]]:
    """A pattern as a list of choices; nested groups are expanded to flat lists."""
    out: list[list[str]] = []
    at = 0
    while at < len(text):
        if text[at] != "(":
            out.append([text[at]])
            at += 1
            continue
        depth, end = 1, at + 1
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        branches = [x for b in _bars(text[at + 1 : end - 1]) for x in _expand(b)]
        optional = text[end : end + 1] == "?"
        out.append([*branches, ""] if optional else branches)
        at = end + optional
    return out


def _bars(text: str) -> list[str]:
    depth, parts = 0, [""]
    for c in text:
        depth += {"(": 1, ")": -1}.get(c, 0)
        if c == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def _expand(text: str) -> list[str]:
    done = [""]
    for choice in _split(text):
        done = [a + b for a in done for b in choice]
    return done


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.pattern[:60])
def test_every_row_matches_what_it_spells(form):
    for opcode in alternatives(form.pattern):
        assert form in forms_of(opcode), opcode


@pytest.mark.parametrize(
    "have, need, fits",
    [("sm_90a", "sm_80", True), ("sm_80", "sm_90", False), ("sm_90", "sm_90a", False),
     ("sm_100a", "sm_90a", False), ("sm_90a", "sm_90a", True), ("sm_100a", "sm_90", True)],
)  # fmt: skip
def test_targets(have, need, fits):
    assert target_has(have, need) is fits


def test_version_is_checked():
    with pytest.raises(InternalError) as e:
        check(Instruction("wgmma.fence.sync.aligned"), "sm_90a", (7, 8))
    assert e.value.code == "X404"


class Bench(Builder):
    """A builder with registers of every class at hand, that assembles what was emitted."""

    def __init__(self) -> None:
        super().__init__("k", "sm_90a")
        self.directive("maxnreg", 128)
        self.directive("reqntid", 128, 1, 1)
        self.q, self.p = self.regs("pred", 2)
        self.h, self.g = self.regs("b16", 2)
        self.r, self.s, self.t = self.regs("b32", 3)
        self.d, self.e = self.regs("b64", 2)
        self.f, self.x, self.y = self.regs("f32", 3)
        self.w, self.z = self.regs("f64", 2)
        self.a, self.m = addr(self.d), addr(self.r)


def integer(b: Bench) -> None:
    for op in ("add.s32", "sub.u32", "mul.lo.s32", "mul.hi.u32", "div.s32", "rem.u32", "min.s32", "max.u32",
               "and.b32", "or.b32", "xor.b32", "shl.b32", "shr.u32", "shr.s32"):  # fmt: skip
        b.emit(op, b.r, b.s, b.t)
    for op in ("abs.s32", "neg.s32", "not.b32", "popc.b32", "clz.b32", "brev.b32", "bfind.u32", "cnot.b32"):
        b.emit(op, b.r, b.s)
    for op in ("mad.lo.s32", "prmt.b32", "bfe.u32", "shf.l.wrap.b32", "sad.s32"):
        b.emit(op, b.r, b.s, b.t, b.r)
    b.emit("lop3.b32", b.r, b.s, b.t, b.r, 0xE8)
    b.emit("bfi.b32", b.r, b.s, b.t, 3, 4)
    b.emit("mul.wide.s32", b.d, b.r, b.s)
    b.emit("mad.wide.u32", b.d, b.r, b.s, b.e)
    b.emit("mov.b64", b.d, (b.r, b.s))
    b.emit("mov.b64", (b.r, b.s), b.d)
    b.emit("mov.b32", (b.h, b.g), b.r)
    b.emit("setp.lt.and.s32", Pair(b.q, b.p), b.r, b.s, b.q)
    b.emit("selp.b32", b.r, b.s, b.t, b.q)
    b.emit("add.s64", b.d, b.d, 8)


def real(b: Bench) -> None:
    for op in ("add.f32", "sub.rn.ftz.f32", "mul.f32", "div.rn.f32", "div.full.f32", "div.approx.ftz.f32",
               "min.f32", "max.NaN.f32", "copysign.f32", "max.ftz.f32"):  # fmt: skip
        b.emit(op, b.f, b.x, b.y)
    for op in ("abs.f32", "neg.f32", "sqrt.rn.f32", "sqrt.approx.ftz.f32", "rcp.approx.ftz.f32",
               "rsqrt.approx.f32", "ex2.approx.ftz.f32", "lg2.approx.f32", "sin.approx.f32", "cos.approx.f32",
               "tanh.approx.f32"):  # fmt: skip
        b.emit(op, b.f, b.x)
    b.emit("fma.rn.f32", b.f, b.x, b.y, 1.0)
    b.emit("fma.rn.ftz.f32", b.f, b.x, b.y, b.f)
    b.emit("fma.rn.f64", b.w, b.z, b.w, b.z)
    b.emit("setp.gtu.ftz.f32", b.q, b.x, b.y)
    for op in ("add.f16x2", "mul.bf16x2", "max.NaN.f16x2", "min.bf16x2"):
        b.emit(op, b.r, b.s, b.t)
    for op in ("fma.rn.f16x2", "fma.rn.relu.bf16x2"):
        b.emit(op, b.r, b.s, b.t, b.r)
    for op in ("ex2.approx.f16x2", "ex2.approx.ftz.bf16x2", "tanh.approx.bf16x2", "neg.bf16x2"):
        b.emit(op, b.r, b.s)


def conversions(b: Bench) -> None:
    for op in ("f16x2", "bf16x2"):
        b.emit(f"cvt.rn.{op}.f32", b.r, b.f, b.x)
        b.emit(f"cvt.rz.relu.{op}.f32", b.r, b.f, b.x)
    for op in ("e4m3x2", "e5m2x2"):
        b.emit(f"cvt.rn.satfinite.{op}.f32", b.h, b.f, b.x)
        b.emit(f"cvt.rn.satfinite.{op}.f16x2", b.h, b.r)
        b.emit(f"cvt.rn.f16x2.{op}", b.r, b.h)
    for op, to, source in (
        ("cvt.rn.f16.f32", b.h, b.f), ("cvt.f32.f16", b.f, b.h), ("cvt.rn.bf16.f32", b.h, b.f),
        ("cvt.f32.bf16", b.f, b.h), ("cvt.rna.tf32.f32", b.r, b.f), ("cvt.rn.tf32.f32", b.r, b.f),
        ("cvt.rzi.s32.f32", b.r, b.f), ("cvt.rn.f32.s32", b.f, b.r), ("cvt.rmi.f32.f32", b.f, b.x),
        ("cvt.u64.u32", b.d, b.r), ("cvt.s64.s32", b.d, b.r), ("cvt.u32.u64", b.r, b.d),
        ("cvt.u32.u8", b.r, b.s), ("cvt.s32.s8", b.r, b.s), ("cvt.rn.f64.s64", b.w, b.d),
        ("cvt.f64.f32", b.w, b.f),
        ("cvt.rn.f32.f64", b.f, b.w), ("cvt.sat.u8.s32", b.r, b.s), ("cvt.rn.bf16.f16", b.h, b.g),
        ("cvt.rn.f16.u8", b.h, b.r), ("cvt.rzi.s32.bf16", b.r, b.h),
    ):  # fmt: skip
        b.emit(op, to, source)


def memory(b: Bench) -> None:
    four, two = (b.f, b.x, b.y, b.f), (b.r, b.s)
    b.emit("ld.param.u64", b.d, addr(b.param("u64")))
    b.emit("ld.global.v4.f32", b.regs("f32", 4), b.a)
    b.emit("ld.global.nc.L1::no_allocate.v2.b64", b.regs("b64", 2), b.a)
    b.emit("ld.global.nc.b16", b.h, b.a)
    b.emit("ld.acquire.gpu.global.b32", b.r, b.a)
    b.emit("ld.shared.v4.b32", b.regs("b32", 4), b.m)
    b.emit("ld.shared::cluster.b32", b.r, b.m)
    b.emit("st.global.v4.f32", b.a, four)
    b.emit("st.global.b8", b.a, b.r)
    b.emit("st.release.gpu.global.b32", b.a, b.r)
    b.emit("st.shared.v2.b32", b.m, two)
    b.emit("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", b.regs("b32", 4), b.m)
    b.emit("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16", b.m, b.regs("b32", 4))
    b.emit("atom.global.add.f32", b.f, b.a, b.x)
    b.emit("atom.global.cas.b32", b.r, b.a, b.s, b.t)
    b.emit("red.relaxed.gpu.global.add.u32", b.a, b.r)
    b.emit("red.global.add.v4.f32", b.a, four)
    b.emit("atom.shared.add.u32", b.r, b.m, b.s)
    b.emit("mapa.shared::cluster.u32", b.r, b.s, b.t)
    b.emit("prefetch.global.L2", b.a)


def warp_and_control(b: Bench) -> None:
    label = b.label("next")
    b.emit("bra.uni", label)
    b.place(label)
    b.emit("shfl.sync.bfly.b32", Pair(b.r, b.q), b.s, 1, 31, -1)
    b.emit("vote.sync.ballot.b32", b.r, b.q, -1)
    b.emit("redux.sync.max.s32", b.r, b.s, -1)
    b.emit("match.any.sync.b32", b.r, b.s, -1)
    b.emit("elect.sync", Pair(b.r, b.q), -1)
    b.emit("activemask.b32", b.r)
    b.emit("bar.sync", 0)
    b.emit("bar.sync", 1, 128)
    b.emit("bar.arrive", 1, 128)
    b.emit("barrier.sync", 1)
    b.emit("bar.warp.sync", -1)
    b.emit("bar.red.popc.u32", b.r, 0, b.q)
    b.emit("barrier.cluster.arrive.release.aligned")
    b.emit("barrier.cluster.wait.acquire.aligned")
    b.emit("fence.acq_rel.gpu")
    b.emit("setmaxnreg.dec.sync.aligned.u32", 40)
    b.emit("griddepcontrol.wait")
    b.emit("nanosleep.u32", 20)
    targets = [b.label("case"), b.label("case")]
    table = b.targets(targets)
    b.emit("brx.idx", b.r, table)
    for t in targets:
        b.place(t)
    b.emit("trap")


def asynchronous(b: Bench) -> None:
    b.emit("mbarrier.init.shared::cta.b64", b.m, 1)
    b.emit("mbarrier.arrive.shared::cta.b64", b.d, b.m)
    b.emit("mbarrier.arrive.expect_tx.shared::cta.b64", b.d, b.m, 512)
    b.emit("mbarrier.expect_tx.relaxed.cta.shared::cta.b64", b.m, 512)
    b.emit("mbarrier.try_wait.parity.shared::cta.b64", b.q, b.m, 0)
    b.emit("mbarrier.test_wait.shared::cta.b64", b.q, b.m, b.d)
    b.emit("mbarrier.inval.shared::cta.b64", b.m)
    b.emit("cp.async.cg.shared.global", b.m, b.a, 16, b.r)
    b.emit("cp.async.commit_group")
    b.emit("cp.async.wait_group", 1)
    b.emit("cp.async.mbarrier.arrive.noinc.shared::cta.b64", b.m)
    load = "cp.async.bulk.tensor.{}d.shared::cluster.global.mbarrier::complete_tx::bytes{}"
    store = "cp.async.bulk.tensor.{}d.global.shared::cta.bulk_group"
    for rank in range(1, 6):
        tensor = tensor_addr(b.d, [b.r] * rank)
        b.emit(load.format(rank, ""), b.m, tensor, b.m)
        b.emit(store.format(rank), tensor, b.m)
    b.emit(load.format(2, ".multicast::cluster"), b.m, tensor_addr(b.d, (b.r, b.s)), b.m, b.h)
    b.emit(load.format(2, ".L2::cache_hint"), b.m, tensor_addr(b.d, (b.r, b.s)), b.m, b.e)
    b.emit(
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group", tensor_addr(b.d, (0, b.r)), b.m
    )
    b.emit("cp.async.bulk.global.shared::cta.bulk_group", b.a, b.m, b.s)
    b.emit("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes", b.m, b.a, b.s, b.m)
    b.emit("cp.async.bulk.commit_group")
    b.emit("cp.async.bulk.wait_group", 0)
    b.emit("cp.async.bulk.wait_group.read", 1)
    b.emit("fence.proxy.async.shared::cta")
    b.emit("fence.mbarrier_init.release.cluster")
    b.emit("prefetch.tensormap", b.a)


def tensor_cores(b: Bench) -> None:
    b.emit("wgmma.fence.sync.aligned")
    head = "wgmma.mma_async.sync.aligned.m64n16"
    d, half = b.regs("f32", 8), b.regs("b32", 4)
    for kind in ("f32.f16.f16", "f32.bf16.bf16"):
        b.emit(f"{head}k16.{kind}", d, b.d, b.e, b.q, 1, 1, 0, 1)
        b.emit(f"{head}k16.{kind}", d, half, b.e, b.q, 1, 1, 1)
    b.emit(f"{head}k16.f16.f16.f16", half, b.d, b.e, b.q, 1, -1, 0, 0)
    b.emit(f"{head}k8.f32.tf32.tf32", d, b.d, b.e, b.q, 1, 1)
    b.emit(f"{head}k32.f32.e4m3.e5m2", d, b.d, b.e, b.q, 1, 1)
    b.emit(f"{head}k32.s32.s8.u8", b.regs("b32", 8), b.d, b.e, b.q)
    b.emit("wgmma.commit_group.sync.aligned")
    b.emit("wgmma.wait_group.sync.aligned", 0)
    for shape, kind, a, c in (
        ("m16n8k16", "f32.f16.f16.f32", 4, 2), ("m16n8k8", "f32.tf32.tf32.f32", 4, 2),
        ("m16n8k16", "f32.bf16.bf16.f32", 4, 2),
    ):  # fmt: skip
        op = f"mma.sync.aligned.{shape}.row.col.{kind}"
        b.emit(op, d[:4], b.regs("b32", a), b.regs("b32", c), d[4:8])
    op = "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"
    b.emit(op, b.regs("b32", 4), b.regs("b32", 4), b.regs("b32", 2), b.regs("b32", 4))


FAMILIES: list[Any] = [integer, real, conversions, memory, warp_and_control, asynchronous, tensor_cores]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_the_assembler_accepts_the_forms(family):
    if find("ptxas") is None:
        pytest.skip("ptxas is not installed: pip install 'tilec[test]'")
    b = Bench()
    family(b)
    b.emit("ret")
    assert assemble(b.text(), "sm_90a").cubin


@pytest.mark.parametrize("n", [12, 264])
def test_table_and_assembler_refuse_the_same_shapes(n):
    assert not forms_of(f"wgmma.mma_async.sync.aligned.m64n{n}k16.f32.f16.f16")


def test_assembler_errors_carry_the_source():
    if find("ptxas") is None:
        pytest.skip("ptxas is not installed: pip install 'tilec[test]'")
    text = "\n".join(
        (".version 8.0", ".target sm_90a", ".address_size 64", '.file 1 "kernel.py"', ".visible .entry k()",
         "{", ".reg .b32 %r<2>;", ".loc 1 9 5", "add.f64 %r0, %r1, %r1;", "ret;", "}"),
    )  # fmt: skip
    with pytest.raises(InternalError, match="PTX line 9") as e:
        assemble(text, "sm_90a")
    assert e.value.loc is not None and (e.value.loc.file, e.value.loc.line) == ("kernel.py", 9)


def test_serious_messages_are_recognised():
    text = (
        "ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored.\n"
        "ptxas info    : Used 40 registers\nptxas kernel.ptx, line 7; error   : bad\nother line\n"
    )
    first, second, third = parse_messages(text)
    assert first.serious and first.code == "C7508" and not second.serious
    assert (third.severity, third.line, third.text) == ("error", 7, "bad")


def test_a_dropped_setmaxnreg_is_serious():
    if find("ptxas") is None:
        pytest.skip("ptxas is not installed: pip install 'tilec[test]'")
    b = Builder("k", "sm_90a")
    b.directive("reqntid", 128, 1, 1)
    b.emit("setmaxnreg.inc.sync.aligned.u32", 64)
    b.emit("ret")
    assert [m.code for m in assemble(b.text(), "sm_90a").messages if m.serious] == ["C7508"]
    b.directive("maxnreg", 64)
    assert not any(m.serious for m in assemble(b.text(), "sm_90a").messages)


def test_a_wrong_override_is_an_error(monkeypatch):
    monkeypatch.setenv("TILEC_PTXAS", "/nowhere/ptxas")
    with pytest.raises(UnsupportedError, match="TILEC_PTXAS"):
        find("ptxas")


def test_the_text_does_not_depend_on_the_folder() -> None:
    """The same kernel in two checkouts is the same PTX."""

    def text(folder: str) -> str:
        b = Builder("k", target="sm_90a")
        with b.at(Loc(f"{folder}/kernel.py", 3, 4)):
            b.emit("ret")
        return b.text()

    assert text("/home/one") == text("/home/two")
