# ruff: noqa: E501
"""Small kernels as text, one per form, that the tests run and mutate."""

from __future__ import annotations

TILE = """\
tilec.kernel @sums form=tile (%A: tensor<int32, 1, contiguous=0>, %C: tensor<int32, 1, contiguous=0>, %n: tile<int32>) {
  %zero = const {dtype=int32, shape=(), value=0} : tile<int32>
  %one = const {dtype=int32, shape=(), value=1} : tile<int32>
  %start = const {dtype=int32, shape=(4,), value=0} : tile<4xint32>
  %total = for %zero, %n, %one, %start : tile<4xint32> {
  ^(%i: tile<int32>, %acc: tile<4xint32>):
    %a = load %A, %i {shape=(4,)} : tile<4xint32>
    %next = add %acc, %a : tile<4xint32>
    yield %next
  }
  store %C, %total, %zero
  yield
}
"""

AREF = """\
tilec.kernel @product form=aref (%A: tensor<float16, 2, contiguous=1>, %C: tensor<float32, 2, contiguous=1>, %n: tile<int32>) {
  %zero = const {dtype=int32, shape=(), value=0} : tile<int32>
  %four = const {dtype=int32, shape=(), value=4} : tile<int32>
  %start = const {dtype=float32, shape=(4, 4), value=0.0} : tile<4x4xfloat32>
  %ring = aref.new {payload=(tile<4x4xfloat16>, tile<4x4xfloat16>)} : aref<tile<4x4xfloat16>, tile<4x4xfloat16>>
  %total = for %zero, %n, %four, %start : tile<4x4xfloat32> {
  ^(%k: tile<int32>, %acc: tile<4x4xfloat32>):
    %a = load %A, %zero, %k {shape=(4, 4)} : tile<4x4xfloat16>
    %b = load %A, %k, %zero {shape=(4, 4)} : tile<4x4xfloat16>
    aref.put %ring, %a, %b {group="load"}
    %x, %y = aref.get %ring {group="compute"} : tile<4x4xfloat16, smem>, tile<4x4xfloat16, smem>
    %yt = permute %y {perm=(1, 0)} : tile<4x4xfloat16, smem>
    %d = dot %x, %yt, %acc : tile<4x4xfloat32>
    aref.release %ring {group="compute"}
    yield %d
  }
  store %C, %total, %zero, %zero
  yield
}
"""


def product(depth: int = 3, pending: int = 1, keep: int | None = None) -> str:
    """The SCHEDULED form of AREF with products in flight."""
    keep = pending if keep is None else keep
    drain = "    aref.release %ring {keep=0}\n" if keep else ""
    return f"""\
tilec.kernel @product form=scheduled (%A: tensor<float16, 2, contiguous=1>, %C: tensor<float32, 2, contiguous=1>, %n: tile<int32>) {{
  %zero = const {{dtype=int32, shape=(), value=0}} : tile<int32>
  %four = const {{dtype=int32, shape=(), value=4}} : tile<int32>
  %start = const {{dtype=float32, shape=(4, 4), value=0.0}} : tile<4x4xfloat32>
  %ring = aref.new {{payload=(tile<4x4xfloat16>, tile<4x4xfloat16>), depth={depth}}} : aref<tile<4x4xfloat16>, tile<4x4xfloat16>, depth={depth}>
  warp_groups {{names=("load", "compute"), warps=(4, 8), registers=(40, 232)}} {{
  ^():
    for %zero, %n, %four {{
    ^(%i: tile<int32>):
      %a = load %A, %zero, %i {{shape=(4, 4)}} : tile<4x4xfloat16>
      %b = load %A, %i, %zero {{shape=(4, 4)}} : tile<4x4xfloat16>
      aref.put %ring, %a, %b
      yield
    }}
    yield
  ^():
    %total = for %zero, %n, %four, %start : tile<4x4xfloat32> {{
    ^(%k: tile<int32>, %acc: tile<4x4xfloat32>):
      %x, %y = aref.get %ring : tile<4x4xfloat16, smem>, tile<4x4xfloat16, smem>
      %yt = permute %y {{perm=(1, 0)}} : tile<4x4xfloat16, smem>
      %d = dot %x, %yt, %acc {{asynchronous=True}} : tile<4x4xfloat32>
      %w = dot.wait %d {{pending={pending}}} : tile<4x4xfloat32>
      aref.release %ring {{keep={keep}}}
      yield %w
    }}
    %done = dot.wait %total {{pending=0}} : tile<4x4xfloat32>
{drain}    store %C, %done, %zero, %zero
    yield
  }}
  yield
}}
"""


def rings(depth: int, consumers: int = 1, keep: int = 0) -> str:
    """Tile i of A goes through a ring to every consumer j, which writes twice of it to Cj."""
    params = "".join(f", %C{j}: tensor<int32, 1, contiguous=0>" for j in range(consumers))
    names = ", ".join(f'"{n}"' for n in ("load", *(f"c{j}" for j in range(consumers))))
    drain = "    aref.release %ring {keep=0}\n" if keep else ""
    readers = "".join(
        f"""\
  ^():
    for %zero, %n, %one {{
    ^(%i{j}: tile<int32>):
      %o{j} = mul %i{j}, %four : tile<int32>
      %t{j} = aref.get %ring : tile<4xint32, smem>
      %s{j} = add %t{j}, %t{j} : tile<4xint32>
      store %C{j}, %s{j}, %o{j}
      aref.release %ring {{keep={keep}}}
      yield
    }}
{drain}    yield
"""
        for j in range(consumers)
    )
    count = consumers + 1
    return f"""\
tilec.kernel @rings form=scheduled (%A: tensor<int32, 1, contiguous=0>{params}, %n: tile<int32>) {{
  %zero = const {{dtype=int32, shape=(), value=0}} : tile<int32>
  %one = const {{dtype=int32, shape=(), value=1}} : tile<int32>
  %four = const {{dtype=int32, shape=(), value=4}} : tile<int32>
  %ring = aref.new {{payload=(tile<4xint32>,), depth={depth}}} : aref<tile<4xint32>, depth={depth}>
  warp_groups {{names=({names}), warps=({"4, " * count}), registers=({"64, " * count})}} {{
  ^():
    for %zero, %n, %one {{
    ^(%i: tile<int32>):
      %o = mul %i, %four : tile<int32>
      %a = load %A, %o {{shape=(4,)}} : tile<4xint32>
      aref.put %ring, %a
      yield
    }}
    yield
{readers}  }}
  yield
}}
"""
