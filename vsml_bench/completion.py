"""Completion of command lines in a shell, by argcomplete: which names an argument may have.

They are read from files. No learner is imported, since whoever presses TAB waits.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter

from vsml_bench import paths
from vsml_bench.studies import studies


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers the shell and ends the process. Every verb of the parser must have its options."""
    for action in _actions(parser):
        if action.choices is None and action.dest in _COMPLETERS:
            action.completer = _COMPLETERS[action.dest]  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)


def learner_names() -> list[str]:
    """What the files of vsml-bench and of studies call their learners: keys of `variants`."""
    files = [*paths.shipped(paths.baselines(), "py"), *paths.PACKAGE.glob("vsml/*.py")]
    for study in studies().values():
        specs = map(importlib.util.find_spec, study.learners)
        files += [Path(spec.origin) for spec in specs if spec is not None and spec.origin]
    texts = (file.read_text(encoding="utf-8") for file in files)
    return sorted({name for text in texts if "variants:" in text for name in _variants(text)})


def _variants(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "variants":
            keys = node.value.keys if isinstance(node.value, ast.Dict) else []
            yield from (key.value for key in keys if isinstance(key, ast.Constant))  # type: ignore[misc]


def _dataset_names() -> Iterable[str]:
    from vsml_bench.data import datasets

    return datasets.OWN


def _suite_names() -> list[str]:
    from vsml_bench import suites

    return suites.suite_names()


def _split_names() -> list[str]:
    from vsml_bench import suites

    return suites.split_names()


def _all_names() -> list[str]:
    return [*_suite_names(), *_split_names(), *learner_names()]


def _either(names: Callable[[], Iterable[str]], *endings: str) -> Callable[..., list[str]]:
    """Names, or the paths of files with these endings."""

    def found(prefix: str, **_: Any) -> list[str]:
        files = FilesCompleter(endings)(prefix) if endings else ()
        return [*(name for name in names() if name.startswith(prefix)), *files]

    return found


_COMPLETERS: dict[str, Callable[..., Any]] = {
    "suite": _either(_suite_names, "toml"),
    "split": _either(_split_names, "toml"),
    "learner": _either(learner_names, "py"),
    "add_learner": _either(learner_names, "py"),
    "names": _either(_dataset_names),
    "what": _either(_all_names, "toml", "json", "safetensors", "py"),
    **dict.fromkeys(
        ("data_root", "fetch_root", "results", "folder", "out"), DirectoriesCompleter()
    ),
}
"""By the name under which an argument's value is kept."""


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of all verbs as well."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)
