"""The folders of edgemesh/ are layers: imports point down, and the pure half does no I/O and has no clock."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import edgemesh

ROOT = Path(edgemesh.__file__).parent

LAYERS = (
    "errors",
    "protocol",
    "model",
    "planning",
    "roles",
    "device",
    "runtime",
    "observe",
    "simulation",
    "transport",
    "zoo",
    "node",
    "cli",
)
"""From the bottom up; a module may import from its own layer and from those before it."""

PURE = ("errors", "protocol", "model", "planning", "roles")

IMPURE_MODULES = frozenset(
    {
        "ai_edge_litert", "asyncio", "click", "datetime", "iotcore", "logging", "multiprocessing", "os",
        "paho", "psutil", "random", "secrets", "selectors", "signal", "socket", "subprocess", "tempfile",
        "tflite_runtime", "threading", "time", "torch", "urllib",
    }
)  # fmt: skip
"""What does I/O, waits, reads a clock, throws dice or belongs to the shell."""

MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def layer_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imported_names(path: Path) -> list[tuple[int, str]]:
    """``(line, dotted name)`` of every import of a module, those inside functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def test_every_folder_is_a_layer() -> None:
    assert {layer_of(module) for module in MODULES} - {"__init__", "__main__"} <= set(LAYERS)
    assert set(PURE) <= {layer_of(module) for module in MODULES}


@pytest.mark.parametrize("module", [m for m in MODULES if layer_of(m) in LAYERS], ids=str)
def test_imports_point_down(module: Path) -> None:
    rank = LAYERS.index(layer_of(module))

    for line, name in imported_names(ROOT / module):
        top, _, rest = name.partition(".")
        if top == "edgemesh":
            target = rest.partition(".")[0]
            if target in ("", "__version__"):
                continue
            assert target in LAYERS, f"{module}:{line} imports {name}, which is no layer"
            assert LAYERS.index(target) <= rank, f"{module}:{line} imports {name}, which lies above it"


@pytest.mark.parametrize("module", [m for m in MODULES if layer_of(m) in PURE], ids=str)
def test_the_pure_half_does_no_io_and_reads_no_clock(module: Path) -> None:
    for line, name in imported_names(ROOT / module):
        assert name.partition(".")[0] not in IMPURE_MODULES, f"{module}:{line} imports {name}"
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval", "__import__"}, (
                f"{module}:{node.lineno} calls {node.func.id}"
            )


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_received_can_run_code(module: Path) -> None:
    """No pickle and no eval anywhere: a payload or a model file is data."""
    for line, name in imported_names(ROOT / module):
        assert name.partition(".")[0] not in {"pickle", "marshal", "shelve", "dill"}, f"{module}:{line}"
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "torch.load", "pickle.loads"}, (
                f"{module}:{node.lineno} {called}"
            )


def test_the_walk_sees_imports_inside_functions() -> None:
    found = {name for _, name in imported_names(ROOT / "protocol" / "codecs.py")}

    assert "zstandard" in found
    assert "edgemesh.errors.DecodeError" in found
