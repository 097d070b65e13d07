"""The tracks that suites belong to, and what each adds to the board."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from vsml_bench.leaderboard.cloning import cloning_sections
from vsml_bench.leaderboard.sections import Finished, Section

SectionMaker: TypeAlias = Callable[[Sequence[Finished]], Sequence[Section]]

TRACKS: Mapping[str, SectionMaker] = {"cloning": cloning_sections}
"""Name of a track, as suites give it -> what makes its sections."""


def sections(track: str, finished: Sequence[Finished]) -> tuple[Section, ...]:
    """The sections of a track's board; none where the suite belongs to no track."""
    return tuple(TRACKS[track](finished)) if track else ()
