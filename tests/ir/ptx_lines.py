# ruff: noqa: E501
"""One line of PTX for each family of forms, by the least target that has it.

Registers by first letter: %p predicates, %h 16 bits, %r 32, %d 64, %f f32, %w f64, %q 128.
"""

# A kernel around some of the lines.
HEAD = """.version {version}
.target {target}
.address_size 64
.shared .align 128 .b8 sm[1024];
.global .align 128 .b8 gm[1024];
.visible .entry k()
.reqntid 128
{{
.reg .pred %p<9>; .reg .b16 %h<40>; .reg .b32 %r<99>; .reg .b64 %d<40>; .reg .f32 %f<99>; .reg .f64 %w<20>;
.reg .b128 %q<9>; .reg .b8 %c<9>; .local .align 16 .b8 lm[64];
mov.u32 %r0, sm; mov.u64 %d0, gm;
{lines}
ret;
}}
"""

LINES: dict[tuple[str, str], str] = {
    ("sm_80", "8.3"): """
add.s16 %h1, %h2, %h3;
add.sat.s32 %r1, %r2, %r3;
add.cc.u32 %r1, %r2, %r3;
addc.cc.u64 %d1, %d2, %d3;
subc.u32 %r1, %r2, %r3;
mad.hi.sat.s32 %r1, %r2, %r3, %r4;
mad.lo.cc.u32 %r1, %r2, %r3, %r4;
madc.hi.cc.u64 %d1, %d2, %d3, %d4;
mul24.lo.u32 %r1, %r2, %r3;
mad24.hi.s32 %r1, %r2, %r3, %r4;
sad.u16 %h1, %h2, %h3, %h4;
fns.b32 %r1, %r2, %r3, %r4;
bmsk.clamp.b32 %r1, %r2, %r3;
szext.wrap.s32 %r1, %r2, %r3;
bfind.shiftamt.u32 %r1, %r2;
dp2a.hi.s32.u32 %r1, %r2, %r3, %r4;
lop3.or.b32 %r1|%p1, %r2, %r3, %r4, 0x12, %p2;
prmt.b32.f4e %r1, %r2, %r3, %r4;
mov.b64 {%r1, %r2}, %d1;
mov.b32 %r1, {%h1, %h2};
set.lt.and.u32.f32 %r1, %f1, %f2, !%p1;
set.lt.u16.f16 %h1, %h2, %h3;
setp.lt.f16x2 %p1|%p2, %r1, %r2;
setp.ltu.xor.f64 %p1|%p2, %w1, %w2, %p3;
slct.f32.s32 %f1, %f2, %f3, %r1;
add.rz.f64 %w1, %w2, %w3;
fma.rm.f64 %w1, %w2, %w3, %w4;
div.rp.f64 %w1, %w2, %w3;
sqrt.rz.f64 %w1, %w2;
rcp.approx.ftz.f64 %w1, %w2;
rsqrt.approx.f64 %w1, %w2;
testp.subnormal.f32 %p1, %f1;
cvt.rn.relu.satfinite.f16x2.f32 %r1, %f1, %f2;
cvt.rna.satfinite.tf32.f32 %r1, %f1;
cvt.pack.sat.s16.s32 %r1, %r2, %r3;
cvt.pack.sat.u4.s32.b32 %r1, %r2, %r3, %r4;
ld.volatile.global.u8 %r1, [%d0];
ld.mmio.relaxed.sys.global.b32 %r1, [%d0];
ld.global.nc.L1::no_allocate.L2::128B.v4.f32 {%f1, %f2, %f3, %f4}, [%d0];
ld.local.b32 %r1, [lm];
ldu.global.v4.f32 {%f1, %f2, %f3, %f4}, [%d0];
st.local.v2.b32 [lm+8], {%r1, %r2};
applypriority.global.L2::evict_normal [%d0], 128;
createpolicy.fractional.L2::evict_last.b64 %d1, 0.5;
createpolicy.range.global.L2::evict_last.L2::evict_first.b64 %d1, [%d0], %r1, %r2;
atom.global.cas.b16 %h1, [%d0], %h2, %h3;
atom.shared.inc.u32 %r1, [%r0], %r2;
red.global.add.noftz.f16x2 [%d0], %r1;
cp.async.ca.shared.global [%r0], [%d0], 4, %p1;
cp.async.cg.shared::cta.global.L2::cache_hint.L2::128B [%r0], [%d0], 16, %r1, %d1;
mbarrier.init.b64 [%d0], 1;
mbarrier.arrive.shared.b64 %d1, [%r0];
mbarrier.arrive.noComplete.release.cta.shared::cta.b64 %d1, [%r0], 1;
mbarrier.pending_count.b64 %r1, %d1;
fence.acq_rel.sys;
membar.proxy.alias;
bar.red.and.pred %p1, 0, 64, !%p2;
match.all.sync.b64 %r1|%p1, %d1, -1;
redux.sync.xor.b32 %r1, %r2, -1;
mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%w1, %w2}, {%w3}, {%w4}, {%w5, %w6};
mma.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32 {%r1, %r2, %r3, %r4}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, {%r1, %r2, %r3, %r4};
mma.sync.aligned.m8n8k16.row.col.satfinite.s32.s8.u8.s32 {%r1, %r2}, {%r5}, {%r9}, {%r1, %r2};
mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor.popc {%r1, %r2, %r3, %r4}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, {%r1, %r2, %r3, %r4};
mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.and.popc {%r1, %r2}, {%r5}, {%r9}, {%r1, %r2};
mma.sync.aligned.m8n8k4.row.col.rz.f64.f64.f64.f64 {%w1, %w2}, {%w3}, {%w4}, {%w5, %w6};
wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%d0], %r9;
wmma.load.b.sync.aligned.m8n32k16.global.col.s8 {%r1, %r2, %r3, %r4}, [%d0];
wmma.load.b.sync.aligned.col.m8n8k128.global.b1 {%r1}, [%d0], 128;
wmma.load.c.sync.aligned.col.m16n16k16.f32 {%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8}, [%d0], %r9;
wmma.store.d.sync.aligned.row.m8n8k4.f64 [%d0], {%w1, %w2};
wmma.mma.sync.aligned.row.col.m16n16k16.f32.f16 {%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8}, {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, {%r1, %r2, %r3, %r4};
wmma.mma.sync.aligned.col.row.m16n16k8.f32.tf32.tf32.f32 {%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8}, {%r1, %r2, %r3, %r4}, {%r1, %r2, %r3, %r4}, {%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8};
wmma.mma.sync.aligned.row.row.m32n8k16.s32.u8.u8.s32.satfinite {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, {%r1, %r2, %r3, %r4}, {%r1}, {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8};
wmma.mma.sync.aligned.row.col.m8n8k4.rn.f64.f64.f64.f64 {%w1, %w2}, {%w3}, {%w4}, {%w5, %w6};
wmma.mma.and.popc.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32 {%r1, %r2}, {%r3}, {%r4}, {%r5, %r6};
pmevent.mask 3;
nanosleep.u32 10;
""",
    ("sm_90a", "8.6"): """
min.NaN.xorsign.abs.f32 %f1, %f2, %f3;
add.u16x2 %r1, %r2, %r3;
min.relu.s16x2 %r1, %r2, %r3;
max.relu.s32 %r1, %r2, %r3;
set.gt.bf16x2.bf16x2 %r1, %r2, %r3;
setp.lt.bf16x2 %p1|%p2, %r1, %r2;
mov.b128 %q1, {%d1, %d2};
ld.global.b128 %q1, [%d0];
st.shared.b128 [%r0], %q1;
atom.global.cas.b128 %q1, [%d0], %q2, %q3;
atom.global.exch.b128 %q1, [%d0], %q2;
atom.global.add.v4.f32 {%f1, %f2, %f3, %f4}, [%d0], {%f1, %f2, %f3, %f4};
red.global.min.noftz.v2.bf16x2 [%d0], {%r1, %r2};
atom.global.max.noftz.v4.f16 {%h1, %h2, %h3, %h4}, [%d0], {%h1, %h2, %h3, %h4};
cvt.rni.bf16.bf16 %h1, %h2;
cvt.rn.bf16.s32 %h1, %r1;
mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 {%w1, %w2, %w3, %w4}, {%w3, %w4, %w5, %w6}, {%w4, %w5}, {%w5, %w6, %w7, %w8};
st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r0], {%r1, %r2, %r3, %r4}, [%r9];
red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u64 [%r0], %d1, [%r9];
cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u64 [%r0], [%r1], %r2, [%r3];
cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.bf16 [%d0], [%r1], %r2;
cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r0], [%d0, {%r1, %r2, %r3}], [%r9], {%h1};
cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%d0, {%r1, %r2}], [%r0];
tensormap.replace.tile.rank.b1024.b32 [%d0], 1;
mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [%r0], 0, 1000;
mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r0];
mbarrier.arrive.expect_tx.relaxed.cluster.shared::cta.b64 _, [%r0], 16;
fence.proxy.async::generic.acquire.sync_restrict::shared::cluster.cluster;
fence.release.sync_restrict::shared::cta.cluster;
membar.proxy.async;
getctarank.shared::cluster.u32 %r1, %r0;
elect.sync _|%p1, -1;
barrier.cluster.arrive.relaxed.aligned;
""",
    ("sm_100a", "9.2"): """
add.rz.sat.f32.bf16 %f1, %h1, %f2;
fma.rn.f32.f16 %f1, %h1, %h2, %f2;
add.rn.ftz.f32x2 %d1, %d2, %d3;
max.NaN.abs.f32 %f1, %f2, %f3, %f4;
redux.sync.min.abs.NaN.f32 %f1, %f2, -1;
ld.global.v8.f32 {%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8}, [%d0];
ld.global.L1::evict_last.L2::evict_first.v4.b64 {%d1, %d2, %d3, %d4}, [%d0];
st.global.v8.b32 [%d0], {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8};
st.bulk.weak.shared::cta [%r0], %d1, 0;
st.async.release.gpu.global.b32 [%d0], %r1;
red.async.release.gpu.global.add.u32 [%d0], %r1;
cvt.rn.satfinite.tf32.f32 %r1, %f1;
cvt.rn.satfinite.e3m2x2.f32 %h1, %f1, %f2;
cvt.rn.f16x2.e2m3x2 %r1, %h1;
cvt.rn.satfinite.e4m3x2.bf16x2 %h1, %r1;
cvt.rp.satfinite.ue8m0x2.f32 %h1, %f1, %f2;
cvt.rn.bf16x2.ue8m0x2 %r1, %h1;
cvt.rn.relu.bf16x2.e3m2x2 %r1, %h1;
cvt.rs.relu.satfinite.bf16x2.f32 %r1, %f1, %f2, %r2;
cvt.rs.satfinite.e4m3x4.f32 %r1, {%f1, %f2, %f3, %f4}, %r2;
clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes.b128 [%r0], [%r1];
clusterlaunchcontrol.query_cancel.is_canceled.pred.b128 %p1, %q1;
clusterlaunchcontrol.query_cancel.get_first_ctaid.v4.b32.b128 {%r1, %r2, %r3, _}, %q1;
cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint.cp_mask [%d0], [%r0], %r1, %d1, %h1;
cp.async.bulk.tensor.2d.shared::cta.global.tile::gather4.mbarrier::complete_tx::bytes [%r0], [%d0, {%r1, %r2, %r3, %r4, %r5}], [%r9];
cp.async.bulk.tensor.2d.global.shared::cta.tile::scatter4.bulk_group [%d0, {%r1, %r2, %r3, %r4, %r5}], [%r0];
cp.async.bulk.tensor.2d.cta_group::2.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint [%r0], [%d0, {%r1, %r2}], [%r9], %h1, %d1;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.cta_group::2 [%r0], [%d0, {%r1, %r2}], [%r9], %h1;
tensormap.replace.tile.swizzle_atomicity.shared::cta.b1024.b32 [%r0], 1;
ldmatrix.sync.aligned.m16n16.x2.trans.shared.b8 {%r1, %r2, %r3, %r4}, [%r0];
ldmatrix.sync.aligned.m8n16.x1.shared.b8x16.b4x16_p64 {%r1}, [%r0];
stmatrix.sync.aligned.m16n8.x2.trans.shared.b8 [%r0], {%r1, %r2};
mma.sync.aligned.m16n8k32.row.col.f16.e4m3.e5m2.f16 {%r1, %r2}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, {%r1, %r2};
tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r1], 64;
tcgen05.alloc.cta_group::1.sync.aligned.b32 [%d1], %r3;
tcgen05.dealloc.cta_group::1.sync.aligned.b32 %r1, 64;
tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;
tcgen05.ld.sync.aligned.32x32b.x1.b32 {%r1}, [%r2];
tcgen05.ld.sync.aligned.16x32bx2.x2.pack::16b.b32 {%r1, %r3}, [%r2], 16;
tcgen05.st.sync.aligned.16x256b.x1.unpack::16b.b32 [%r2], {%r1, %r3, %r4, %r5};
tcgen05.st.sync.aligned.16x32bx2.x2.b32 [%r2], 16, {%r1, %r3};
tcgen05.wait::st.sync.aligned;
tcgen05.fence::before_thread_sync;
tcgen05.commit.cta_group::1.mbarrier::arrive::one.b64 [%d1];
tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.multicast::cluster.b64 [%r1], %h1;
tcgen05.cp.cta_group::1.32x128b.warpx4.b8x16.b4x16_p64 [%r1], %d1;
tcgen05.cp.cta_group::1.64x128b.warpx2::01_23 [%r1], %d1;
tcgen05.shift.cta_group::1.down [%r1];
tcgen05.mma.cta_group::1.kind::f16 [%r1], %d1, %d2, %r2, {%r3, %r4, %r5, %r6}, %p1;
tcgen05.mma.cta_group::1.kind::f16 [%r1], [%r9], %d2, %r2, %p1, 3;
tcgen05.mma.cta_group::1.kind::tf32.ashift.collector::a::discard [%r1], [%r9], %d2, %r2, %p1;
tcgen05.mma.cta_group::1.kind::i8 [%r1], [%r7], %d2, %r2, %p1;
tcgen05.mma.cta_group::1.kind::mxf8f6f4.block_scale.block32.collector::a::use [%r1], %d1, %d2, %r2, [%r3], [%r4], %p1;
tcgen05.mma.cta_group::1.kind::mxf4nvf4.block_scale.scale_vec::4X [%r1], %d1, %d2, %r2, [%r3], [%r4], %p1;
tcgen05.mma.ws.cta_group::1.kind::f16.collector::b1::fill [%r1], [%r7], %d2, %r2, %p1, %d3;
""",
    ("sm_120a", "8.7"): """
mma.sync.aligned.kind::f8f6f4.m16n8k32.row.col.f32.e4m3.e2m1.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.kind::mxf4.block_scale.m16n8k64.row.col.f32.e2m1.e2m1.f32.ue8m0 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4}, %r7, {0, 1}, %r8, {%h1, %h2};
mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4}, %r7, {0, 0}, %r8, {0, 3};
mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.f32.e3m2.e4m3.f32.ue8m0 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4}, %r7, {3, 1}, %r8, {2, 3};
mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f16.e3m2.e2m3.f16 {%r1, %r2}, {%r3, %r4, %r5, %r6}, {%r5, %r6}, {%r1, %r2};
""",
}
