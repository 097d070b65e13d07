"""Which tracks there are: what each adds to its suites' boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vsml_bench.leaderboard import (
    ablations,
    cloning,
    heat_map,
    introspection,
    precision,
    robustness,
)
from vsml_bench.leaderboard.sections import Drawing, Finished, Section, SectionMaker

TRACKS: Mapping[str, SectionMaker] = {
    "ablations": ablations.sections,
    "cloning": cloning.sections,
    "introspection": introspection.sections,
    "precision": precision.sections,
    "robustness": robustness.sections,
}
"""Name of a track, as suites give it -> what makes its sections."""
DRAWINGS: Mapping[str, Drawing] = {
    "robustness": heat_map.card,
}
"""Name of a track -> what draws its sections, where they are drawn."""


def sections(track: str, finished: Sequence[Finished]) -> tuple[Section, ...]:
    """The sections of a track's board; none where the suite belongs to no track."""
    return tuple(TRACKS[track](finished)) if track else ()


def drawings(track: str, shown: Sequence[Section]) -> Mapping[str, bytes]:
    """File name -> picture of the sections; none where nothing is drawn."""
    return DRAWINGS[track](shown) if track in DRAWINGS else {}
