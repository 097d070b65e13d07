"""What a track adds to its suite's board: tables of its own, pure functions of the cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vsml_bench.leaderboard import ablations, cloning, introspection
from vsml_bench.leaderboard.sections import Finished, Section, SectionMaker

TRACKS: Mapping[str, SectionMaker] = {
    "ablations": ablations.sections,
    "cloning": cloning.sections,
    "introspection": introspection.sections,
}
"""Name of a track, as suites give it -> what makes its sections."""


def sections(track: str, finished: Sequence[Finished]) -> tuple[Section, ...]:
    """The sections of a track's board; none where the suite belongs to no track."""
    return tuple(TRACKS[track](finished)) if track else ()
