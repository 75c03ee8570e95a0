"""What pictures of measurements are made of."""

from __future__ import annotations

from html import escape


def svg_text(
    across: float,
    height: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 11,
    colour: str = "#000000",
    bold: bool = False,
) -> str:
    """A text at a place of a picture."""
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{across:.1f}" y="{height:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="{colour}"{weight}>{escape(text)}</text>'
