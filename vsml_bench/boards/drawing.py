"""Pictures for documents and papers: what Altair specifies, as SVG and PNG.

The same chart gives the same bytes. Texts are measured with a font that vl-convert brings along, so
that no picture depends on what fonts a machine has."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

INK = "#24292f"
_CONFIG: dict[str, Any] = {
    "background": "white",
    "padding": 12,
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": INK, "titleColor": INK, "domainColor": INK, "tickColor": INK},
        **{"gridColor": INK, "gridOpacity": 0.12, "labelFontSize": 12, "titleFontSize": 13},
        **{"titleFontWeight": "normal", "labelLimit": 400},
    },
    "legend": {
        **{"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12},
        **{"titleFontWeight": "normal", "labelLimit": 400, "titleLimit": 400},
    },
    "title": {"color": INK, "fontSize": 14, "fontWeight": "normal", "anchor": "start"},
}


def to_files(chart: alt.TopLevelMixin, name: str) -> dict[str, bytes]:
    """NAME.svg, and NAME.png with twice as many pixels each way."""
    import vl_convert

    specification = json.dumps({**chart.to_dict(), "config": _CONFIG})
    return {
        f"{name}.svg": _renumbered(vl_convert.vegalite_to_svg(specification)).encode(),
        f"{name}.png": vl_convert.vegalite_to_png(specification, scale=2.0),
    }


def _renumbered(svg: str) -> str:
    """With its own parts counted from 0: vl-convert counts on from one picture to the next."""
    numbers: dict[str, str] = {}
    for name in re.findall(r'\bid="((?:gradient_|clip)\d+)"', svg):
        numbers.setdefault(name, f"part{len(numbers)}")
    return re.sub(r"\b(?:gradient_|clip)\d+\b", lambda match: numbers.get(match[0], match[0]), svg)
