"""Made of: everything that a run depends on, in parts, so that one of before can say why it does not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import edgemesh
from edgemesh.simulation.code_digest import digest_of_code
from edgemesh.simulation.plans import Case

_PACKAGE = Path(edgemesh.__file__).parent
_TOOLS = Path(__file__).resolve().parents[1]
_CODE = (_PACKAGE, _TOOLS / "reproduction", _TOOLS / "testbeds", _TOOLS / "benchmarks" / "models.py")
UNKNOWN = "made by a version that did not note what it was made of"
"""Of a record, in place of the parts that differ."""


def made_of(case: Case, seed: int, slower: float, plans: Any) -> dict[str, str]:
    """A digest of each part of a run of ``case`` with ``plans``: what is compared with a run of before."""
    scenario = asdict(case.scenario)
    # The policy is in the plans; what a scenario is called and who says so changes nothing.
    for name in ("name", "description", "models", "seed", "policy"):
        del scenario[name]
    parts = {
        "network": case.model,
        "scenario": _without_sources(scenario),
        "boards": {
            name: {key: figure.value for key, figure in board.figures.items()}
            for name, board in case.boards.items()
        },
        "pace of jobs": round(case.rate(case.scenario.streams[0]), 6),
        "seed": seed,
        "time scale": slower,
        "plans": plans,
    }
    return {**{name: _digest(part) for name, part in parts.items()}, "code": code_digest()}


def schedule_of(parts: Mapping[str, str]) -> str:
    """The name of the experiment: runs that share it are the same one."""
    return _digest(dict(parts))


def differences(record: Mapping[str, Any], parts: Mapping[str, str]) -> list[str]:
    """Why a record of before is not one of a run of these parts."""
    before = record.get("made_of")
    if before is None:
        return [UNKNOWN]
    return [f"other {name}" for name, digest in parts.items() if before.get(name) != digest]


@cache
def code_digest() -> str:
    """Of the Python that a run executes, and of what lies beside that."""
    return digest_of_code(_CODE)[:16]


def _without_sources(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_sources(each) for key, each in value.items() if key != "source"}
    return [_without_sources(each) for each in value] if isinstance(value, (list, tuple)) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
