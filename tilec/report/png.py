"""A chart as PNG, drawn by resvg with the fonts of this machine: pixels may differ elsewhere."""

from __future__ import annotations

from tilec.ir.errors import UnsupportedError


def png(svg: str, zoom: float = 2.0) -> bytes:
    """The SVG text on white, ``zoom`` times as large. UnsupportedError U320 without resvg-py."""
    try:
        import resvg_py
    except ImportError as error:
        what = f"resvg_py cannot be imported: {error}"
        raise UnsupportedError("U320", what, help="pip install 'tilec[png]', or take the SVG file") from None
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom, background="white"))
