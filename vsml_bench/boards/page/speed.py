"""From a commit to asv's history of speed, in a site that has asv's pages beside the boards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from vsml_bench.errors import VsmlBenchError

PAGES = "speed"
"""asv's folder, beside the pages of boards."""
_SHOWN = "online.Online.time_run"
"""The benchmark that a link leads to: the time of a lifetime."""


@dataclass(frozen=True)
class Link:
    """To asv's page, and what it shows."""

    address: str
    text: str


@dataclass(frozen=True)
class Speed:
    """What asv has measured."""

    dates: Mapping[str, str]
    """Commit -> ISO date and time, UTC."""

    def link(self, commit: str, date: str) -> Link:
        """The speed of that commit, or of the measured one that is nearest in time; date: ISO, of
        when the commit was run."""
        at = _seconds(date)
        nearest = min(self.dates, key=lambda of: (abs(_seconds(self.dates[of]) - at), of))
        measured = commit if commit in self.dates else nearest
        said = (
            "of this commit" if commit in self.dates else "of the measured commit nearest in time"
        )
        address = f"{PAGES}/index.html#{_SHOWN}?commits={measured}"
        return Link(address, f"{said}, {measured[:10]}")


def read_speed(pages: Path) -> Speed | None:
    """What asv's pages in a folder show; None where there are none.

    Raises VsmlBenchError where these are not asv's.
    """
    index = pages / "index.json"
    if not index.is_file():
        return None
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        dates = {
            commit: datetime.fromtimestamp(found["revision_to_date"][at] / 1000, timezone.utc)
            for at, commit in found["revision_to_hash"].items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise VsmlBenchError(
            f"{index.name} of asv's pages cannot be read; make these again with `make asv-pages`."
        ) from error
    return Speed({c: date.isoformat() for c, date in dates.items()}) if dates else None


def _seconds(date: str) -> float:
    """Since 1970; dates without a zone are UTC."""
    found = datetime.fromisoformat(date)
    return found.replace(tzinfo=found.tzinfo or timezone.utc).timestamp()
