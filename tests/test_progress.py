"""Bars on terminals, lines in logs."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from vsml_bench.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log(shown: bool, *seconds: float) -> list[str]:
    """What a log has of work of 8 parts, 2 of them done before, after each of which so many seconds
    have passed."""
    now = [0.0]
    with redirect_stderr(io.StringIO()) as err:  # noqa: SIM117
        with ProgressBar(8, "cells", shown, begun=2, clock=lambda: now[0]) as bar:
            for part, at in enumerate(seconds, start=3):
                now[0] = at
                bar.reach(part, f"{part} of 8")
                if part == 5:
                    bar.say("so far so good")
    return err.getvalue().splitlines()


def test_a_log_has_a_line_each_half_minute() -> None:
    assert log(True, 10, 29, 31, 45, 60, 4000) == [
        "cells:  25%, 0:00:00 passed",
        "cells:  62%, 5 of 8, 0:00:31 passed, 0:00:31 left",
        "so far so good",
        "cells: 100%, 8 of 8, 1:06:40 passed",
    ]


def test_quiet_is_silent() -> None:
    assert log(False, 10, 40, 80, 120, 130, 140) == []


def test_a_run_that_ends_early_says_how_far_it_came() -> None:
    with redirect_stderr(io.StringIO()) as err, pytest.raises(KeyboardInterrupt):  # noqa: SIM117
        with ProgressBar(4, "cells", True, clock=lambda: 1.0) as bar:
            bar.reach(1)
            raise KeyboardInterrupt
    assert err.getvalue().splitlines()[-1].startswith("cells:  25%")


def test_nothing_to_do() -> None:
    with redirect_stderr(io.StringIO()) as err, ProgressBar(0, "cells", True):
        pass
    assert "cells: 100%" in err.getvalue()


def test_a_terminal_has_a_bar_and_keeps_its_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with redirect_stderr(Terminal()) as err, ProgressBar(4, "[a]\x1b[5m", True) as bar:
        bar.reach(2, "2 of 4, [loss] 0.5")
        bar.say("validated [well]")
    shown = err.getvalue()
    assert "━" in shown and "50%" in shown and "2 of 4, [loss] 0.5" in shown
    assert "validated [well]\n" in shown
    assert r"[a]\x1b[5m" in shown and "\x1b[5m" not in shown
    assert "\x1b[?25" not in shown, "whoever kills the run would be left without a cursor"
