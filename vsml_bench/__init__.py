"""vsml-bench: does this learner really learn to learn, and does what it learned carry over?

The functions behind the command line, for notebooks: `list_learners`, `check`, `meta_train`,
`run`, `leaderboard`, `compare`, `curves`. They are imported when first used, so that
`import vsml_bench` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["check", "compare", "curves", "leaderboard", "list_learners", "meta_train", "run"]

if TYPE_CHECKING:
    from vsml_bench.api import (
        check,
        compare,
        curves,
        leaderboard,
        list_learners,
        meta_train,
        run,
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vsml_bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'vsml_bench' has no attribute '{name}'")
