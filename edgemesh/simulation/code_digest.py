"""Code digest: what was played by other code is not the same, whatever else it has in common."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest_of_code(places: Iterable[Path]) -> str:
    """SHA-256 of the Python in ``places``, files and folders, with the names that it has there.

    Of what it does: comments and docstrings may change. Raises SyntaxError for what is no Python.
    """
    digest = hashlib.sha256()
    for place in places:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{file.relative_to(place.parent)}\0".encode())
            digest.update(hashlib.sha256(_without_texts(file.read_bytes()).encode()).digest())
    return digest.hexdigest()


def _without_texts(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [statement for statement in body if not _is_text(statement)]  # type: ignore[attr-defined]
    return _shape(tree)


def _shape(node: object) -> str:
    """As ``ast.dump`` has it, which is not the same in every Python: what is empty is left out."""
    if isinstance(node, list):
        return f"[{','.join(map(_shape, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    told = ast.iter_fields(node)
    if not isinstance(node, ast.Constant):  # whose value may be None
        told = ((name, value) for name, value in told if value is not None and value != [])
    return f"{type(node).__name__}({','.join(f'{name}={_shape(value)}' for name, value in told)})"


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
