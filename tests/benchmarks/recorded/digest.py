"""Digests of code as Python sees it: comments, formatting and docstrings do not count, nor do names of modules.

They are the same under every Python that tfcompact runs on, so a record made with one is not old for another.
"""

from __future__ import annotations

import ast
import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import tfcompact
from recorded import checkout

PACKAGE = Path(tfcompact.__file__).parent


def of_source(source: str, suffix: str = ".py") -> str:
    """The digest of a module, or of a TOML file's content, 16 hex digits."""
    text = repr(tomllib.loads(source)) if suffix == ".toml" else _text(_without_docstrings(ast.parse(source)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_package(modules: Mapping[str, str]) -> str | None:
    """One digest of a package from those of its modules; None where it has none."""
    if not modules:
        return None
    return hashlib.sha256("".join(sorted(modules.values())).encode()).hexdigest()[:16]


@cache
def modules(package: str, commit: str | None = None) -> dict[str, str]:
    """Digests of the modules of `tfcompact.<package>` by file name: as they are now, or were at a commit.

    It is empty where there is, or was, no such package.
    """
    if commit is None:
        files = _sources(PACKAGE / package)
    else:
        whole = checkout.sources_at(commit) or {}
        files = {path: text for path, text in whole.items() if path.startswith(f"{package}/")}
    return {path.partition("/")[2]: of_source(text, Path(path).suffix) for path, text in files.items()}


def packages(names: Iterable[str], commit: str | None = None) -> dict[str, str | None]:
    """The digest of each of these packages, now or at a commit; None for one that there is not, or was not yet."""
    return {name: of_package(modules(name, commit)) for name in names}


def whole() -> str:
    """Of all of tfcompact, eight digits: what was made by other code is not to be taken for this one's."""
    return (of_package(modules(".")) or "")[:8]


def _sources(folder: Path) -> dict[str, str]:
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".toml"))
    return {path.relative_to(folder.parent).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without strings that stand alone, which is what a docstring is."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_docstring(line)]  # type: ignore[attr-defined]
    return tree


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _text(node: object) -> str:
    """A tree as text. Fields that are absent or empty are left out: which there are depends on Python's version."""
    if isinstance(node, ast.AST):
        fields = (f"{name}={_text(value)}" for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_text, node))}]"
    return repr(node)
