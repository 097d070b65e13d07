"""Takes out of an error text what identifies a machine or a person, so that it can be published."""

from __future__ import annotations

import contextlib
import getpass
import re
import socket
from pathlib import Path

_GENERIC = frozenset({"", "root", "user", "nobody", "localhost"})
"""Names that identify nobody, and that error texts use as words."""

_PATH = re.compile(
    r"(?P<url>\b(?:https?|ftp)://[^\s\"'<>]+)"
    r"|(?P<quote>[\"'])(?:file://)?(?:/|[A-Za-z]:\\)(?P<quoted>[^\"'\n]*)(?P=quote)"
    r"|(?<![\w/.~*<-])(?:file://)?(?:/|[A-Za-z]:\\)(?P<bare>[^\s\"'<>|,;()\[\]{}:]*)"
)


def scrub(text: str) -> str:
    """The text with every absolute path replaced by its last part, and the home folder and the
    names of user and host by `~`, `<user>` and `<host>`. Web addresses stay."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(re.escape(home) + r"(?![\w.-]|[/\\]\w)", "~", text)
    text = _PATH.sub(_last_part, text)
    for name, mark in _private_names().items():
        text = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", mark, text)
    return text


def _last_part(match: re.Match[str]) -> str:
    if match["url"]:
        return match["url"]
    path = match["quoted"] if match["quoted"] is not None else match["bare"]
    parts = re.split(r"[/\\]+", path.rstrip("/\\"))
    quote = match["quote"] or ""
    return f"{quote}{parts[-1] or '/'}{quote}"


def _private_names() -> dict[str, str]:
    host = socket.gethostname()
    names = {host: "<host>", host.partition(".")[0]: "<host>"}
    with contextlib.suppress(OSError, KeyError):  # a user id without a name, as in some containers
        names[getpass.getuser()] = "<user>"
    names[Path.home().name] = "<user>"
    return {
        name: names[name]
        for name in sorted(names, key=len, reverse=True)
        if name.lower() not in _GENERIC
    }
