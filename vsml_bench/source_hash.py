"""A hash of what a learner's code does, so that a tidied comment leaves results valid and a changed
equation makes them stale.

It covers the syntax tree, without comments, docstrings and layout, of the learner's class and of
every definition that it reaches: in its own module and, through imports, in `vsml_bench` and in
files beside it. What a class declares about itself is left out: its recipe, its grid and its
configurations have hashes of their own, and the rest is description. Other packages are covered by
the versions that a cell records.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "kind", "type_ignores"})
_DECLARATIONS = frozenset(
    {
        "variants",
        "family",
        "source",
        "protocols",
        "input_kinds",
        "invariances",
        "recipe",
        "tuning",
        "requires",
        "fast_code",
    }
)
"""Class attributes of the contract that say what a learner is, not what it does."""


class _Module(NamedTuple):
    definitions: dict[str, list[ast.stmt]]  # top-level name -> statements that bind it
    imports: dict[str, tuple[Path, str | None]]  # local name -> (file, name in it; None: a module)


@lru_cache(maxsize=256)
def learner_hash(cls: type) -> str:
    """SHA-256, as hex, over the code that `cls` reaches."""
    file = Path(inspect.getfile(cls)).resolve()
    reached: dict[tuple[str, str], str] = {}
    _reach(file, cls.__name__, reached)
    digest = hashlib.sha256()
    for (_, name), text in sorted(reached.items(), key=lambda item: (item[0][1], item[1])):
        digest.update(f"{name}\n{text}\n".encode())
    return digest.hexdigest()


def _reach(file: Path, name: str, reached: dict[tuple[str, str], str]) -> None:
    if (str(file), name) in reached:
        return
    module = _parse(file)
    if name in module.imports:
        target, original = module.imports[name]
        if original is None:
            for definition in _parse(target).definitions:
                _reach(target, definition, reached)
        else:
            _reach(target, original, reached)
        return
    statements = module.definitions.get(name)
    if statements is None:
        return
    reached[str(file), name] = "\n".join(_canonical(statement) for statement in statements)
    for statement in statements:
        for used in _names(statement):
            if used in module.definitions or used in module.imports:
                _reach(file, used, reached)


@lru_cache(maxsize=256)
def _parse(file: Path) -> _Module:
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, tuple[Path, str | None]] = {}
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            imports.update(_local_imports(statement, file))
        else:
            if isinstance(statement, ast.ClassDef):
                statement.body = [s for s in statement.body if not _is_declaration(s)]
            for name in _bound_names(statement):
                definitions.setdefault(name, []).append(statement)
    return _Module(definitions, imports)


def _local_imports(
    statement: ast.Import | ast.ImportFrom, file: Path
) -> Iterator[tuple[str, tuple[Path, str | None]]]:
    """Imported names whose code lies in `vsml_bench` or beside the file."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            target = _locate(alias.name, file)
            if target is not None:
                yield alias.asname or alias.name, (target, None)
        return
    module = statement.module or ""
    for alias in statement.names:
        as_module = _locate(f"{module}.{alias.name}".strip("."), file, statement.level)
        target = _locate(module, file, statement.level)
        if as_module is not None:
            yield alias.asname or alias.name, (as_module, None)
        elif target is not None:
            yield alias.asname or alias.name, (target, alias.name)


def _locate(module: str, file: Path, level: int = 0) -> Path | None:
    if level or not module.startswith("vsml_bench"):
        base = file.parents[level - 1] if level else file.parent
        beside = base.joinpath(*module.split(".")).with_suffix(".py")
        return beside if beside.is_file() else None
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _bound_names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    return [
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


def _is_declaration(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.Assign, ast.AnnAssign)) and bool(
        _DECLARATIONS.intersection(_bound_names(statement))
    )


def _names(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _canonical(node: Any) -> str:
    """Text of a syntax tree that does not depend on the Python version: empty and positional
    fields are left out."""
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if name in _SKIPPED_FIELDS or value is None or value == []:
                continue
            if name == "body" and isinstance(value, list):
                value = [s for s in value if not _is_docstring(s)]
            fields.append(f"{name}={_canonical(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return "[" + ",".join(_canonical(item) for item in node) + "]"
    return repr(node)


def _is_docstring(statement: ast.stmt) -> bool:
    """A string that stands alone: a docstring of a function, a class or a field."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
