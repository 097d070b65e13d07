"""Pictures for documents and papers: what Altair specifies, as SVG and PNG.

The same specification gives the same bytes. Texts are measured with a font that vl-convert brings
along, so that no picture depends on what fonts a machine has."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

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


def to_files(specification: Mapping[str, Any], name: str) -> dict[str, bytes]:
    """NAME.svg, and NAME.png with twice as many pixels each way; specification: of Vega-Lite."""
    import vl_convert

    png = vl_convert.vegalite_to_png(_finished(specification), scale=2.0)
    return {f"{name}.svg": to_svg(specification).encode(), f"{name}.png": png}


def to_svg(specification: Mapping[str, Any]) -> str:
    """The picture as SVG alone."""
    import vl_convert

    return _renumbered(vl_convert.vegalite_to_svg(_finished(specification)))


def _finished(specification: Mapping[str, Any]) -> str:
    return json.dumps({**specification, "config": _CONFIG})


def _renumbered(svg: str) -> str:
    """With its own parts counted from 0: vl-convert counts on from one picture to the next."""
    numbers: dict[str, str] = {}
    for name in re.findall(r'\bid="((?:gradient_|clip)\d+)"', svg):
        numbers.setdefault(name, f"part{len(numbers)}")
    return re.sub(r"\b(?:gradient_|clip)\d+\b", lambda match: numbers.get(match[0], match[0]), svg)
