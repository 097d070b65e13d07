"""Where files are: the project's own, in a checkout's top level or inside an installed wheel, and
those that references by path name.

A reference is a name or a path; after a colon it may say what is meant inside of the file, such as
"my/learner.py:Class" or "my/suite.toml:NAME".
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from vsml_bench.errors import VsmlBenchError

PACKAGE = Path(__file__).resolve().parent
_REFERENCE = re.compile(
    r"(?P<file>.+(?:\.(?:toml|py|csv|npz)|/)|\.{0,2}/[^:]+)(?::(?P<inside>.*))?"
)


def home() -> Path:
    """The folder that holds `baselines/`, `tasks/` and `results/`."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "tasks" / "suites").is_dir() else PACKAGE / "shipped"


def baselines() -> Path:
    """One file per baseline learner."""
    return home() / "baselines"


def tasks() -> Path:
    """TOML files: `sides/`, `splits/` and `suites/`."""
    return home() / "tasks"


def results() -> Path:
    """What is published: checkpoints, cells and boards."""
    return home() / "results"


def made() -> Path:
    """Where `meta-train` puts checkpoints and tuning records, and where runs look for them."""
    return Path("runs") / "checkpoints"


def shipped(folder: Path, ending: str) -> list[Path]:
    """The files below a folder that have this ending, in the order of their names as `list` shows
    them; not what editors and file managers leave, hidden files and links to nothing."""
    files = (path for path in folder.rglob(f"*.{ending}") if path.is_file())
    seen = (path for path in files if not path.name.startswith((".", "_")))
    return sorted(seen, key=lambda path: path.relative_to(folder).with_suffix("").as_posix())


def cache() -> Path:
    """This user's folder for what can be made again."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # the standard says to ignore others, such as an empty one
        return Path(named) / "vsml-bench"
    home = os.path.expanduser("~")
    if os.path.isabs(home):
        return Path(home) / ".cache" / "vsml-bench"
    return Path(tempfile.gettempdir()) / f"vsml-bench-{os.getuid()}"


def expanded(path: str) -> str:
    """The path with `~` and `~user` for a home folder; VsmlBenchError where nobody knows that."""
    found = os.path.expanduser(path)
    if path.startswith("~") and found == path:
        user = path.partition("/")[0]
        raise VsmlBenchError(f"{path}: the home folder of '{user}' is not known; write it out.")
    return found


def given(path: Path | str | None) -> Path | None:
    """A path that a user named, or not."""
    return Path(expanded(str(path))) if path is not None else None


def parts(reference: str) -> tuple[str, str]:
    """The file or folder of a reference by path, and what is meant inside; ("", "") for a name.

    A path ends in `.toml`, `.py`, `.csv`, `.npz` or a slash, or begins with `/`, `./` or `../`.
    """
    match = _REFERENCE.fullmatch(reference)
    return (match["file"], match["inside"] or "") if match else ("", "")


def published(reference: str) -> str:
    """A reference by path without its folder, so that no record depends on a machine's folders."""
    file, inside = parts(reference)
    name = re.split(r"[/\\]", file.rstrip("/\\"))[-1]
    return (f"{name}:{inside}" if inside else name) or reference


def located(reference: str, beside: Path) -> str:
    """A reference by path that the file `beside` makes, as an absolute one: in that file's folder,
    or in the working folder where only that has it. Names stay as they are."""
    file, inside = parts(reference)
    if not file:
        return reference
    first, second = (os.path.abspath(folder / file) for folder in (beside.parent, Path()))
    found = second if os.path.exists(second) and not os.path.exists(first) else first
    return f"{found}:{inside}" if inside else found


def missing(reference: str) -> str:
    """Where the file of a reference by path was looked for, as the end of a sentence that says that
    it does not exist; "" where it does, and for names."""
    file, _ = parts(reference)
    if not file or os.path.exists(file):
        return ""
    folder = os.path.dirname(os.path.abspath(file))
    if folder == os.getcwd():
        return "it is not in the working folder."
    return f"it is neither in {folder} nor in the working folder."
