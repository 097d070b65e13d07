"""A new learner's file, written from a template that runs."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from vsml_bench import cards, paths
from vsml_bench.errors import VsmlBenchError, check_name
from vsml_bench.storage import write_atomically


def write_new_learner(name: str, out: Path | None = None, meta: bool = False) -> Path:
    """Writes a learner that runs as it is, a template with the names put in, and returns its path.

    name: on the board, such as "fading-mean". out: where to (default: the name with underscores,
    here). meta: one with meta-parameters and a recipe. Raises VsmlBenchError for a name that cannot
    be used or is taken, and for a file that exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise VsmlBenchError(
            f"'{name}' cannot be a learner's name; use small letters and digits, words joined by "
            "hyphens, as in fading-mean."
        )
    check_name(name, "a learner's name")
    taken = cards.shipped().get(name)
    if taken is not None:
        raise VsmlBenchError(
            f"a learner called '{name}' exists already ({taken.origin}); choose another name."
        )
    class_name = "".join(word.capitalize() for word in name.split("-"))
    if keyword.iskeyword(class_name):
        raise VsmlBenchError(f"'{name}' would be the class {class_name}, a word of Python's own.")
    path = out or Path(f"{name.replace('-', '_')}.py")
    if path.suffix != ".py":
        raise VsmlBenchError(f"--out {path}: a learner is a Python file; end its name in .py.")
    if path.exists():
        raise VsmlBenchError(f"{path} exists already; choose another name or --out.")
    text = template(meta).read_text(encoding="utf-8")
    if re.search(rf"\b{class_name}\b", text.replace("MyLearner", "")):
        raise VsmlBenchError(
            f"a learner called '{name}' would be the class {class_name}, which its file imports "
            "under that name; choose another."
        )
    text = text.replace("MyLearner", class_name).replace("my-learner", name)
    write_atomically(path, text.encode())
    return path


def template(meta: bool) -> Path:
    """The file that a new learner starts as, itself a learner that runs."""
    return paths.PACKAGE / "templates" / ("meta_learner.py" if meta else "learner.py")
