"""Texts that people write, or get from others: files and addresses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgemesh.device.boards import Board, parse_board
from edgemesh.errors import SettingsError
from edgemesh.node.treatment import parse_treatment
from edgemesh.simulation.scenario_file import parse_scenario
from edgemesh.transport.address import parse_address
from fuzzing.target import Target

ROOT = Path(__file__).resolve().parents[2]
_SCENARIOS = ("calm.toml", "wifi-swings.toml")
_BOARD = "pi-4b"
_URLS = ("localhost", "mqtts://me:secret@broker.local:8883", "ws://[::1]:9001/mqtt")


def text_targets() -> list[Target]:
    """All of them."""
    refusals = (SettingsError,)
    return [
        Target("scenario", _text(_scenario), _scenarios, refusals),
        Target("board", _text(_board), lambda: [_shipped_board()], refusals),
        Target("treatment", _text(_treatment), _treatments, refusals),
        # A refusal repeats the address, so that the person sees what is wrong with it.
        Target("address", _text(parse_address), lambda: [url.encode() for url in _URLS], refusals, 512),
    ]


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda payload: read(payload.decode("utf-8", "replace"))


def _scenario(text: str) -> object:
    return parse_scenario(text, "fuzzed", "the scenario")


def _scenarios() -> list[bytes]:
    folder = ROOT / "edgemesh" / "simulation" / "scenarios"
    return [(folder / name).read_bytes() for name in _SCENARIOS]


def _board(text: str) -> Board:
    """With what its figures are asked for."""
    board = parse_board(text, _BOARD, "the board")
    assert board.power is not None and board.link is not None
    assert board.cores >= 1 and board.memory_for_models >= 0
    return board


def _shipped_board() -> bytes:
    return (ROOT / "firmware_profiles" / f"{_BOARD}.toml").read_bytes()


def _treatment(text: str) -> object:
    return parse_treatment(text, Path("treatment.toml"))


def _treatments() -> list[bytes]:
    """As the zoo has them, which says more, and one of a person."""
    zoo = ROOT / "edgemesh" / "zoo"
    own = b'[image]\nwidth = 8\nheight = 8\nmean = [127.5]\n[classes]\ntensor = "out"\nlabels = ["cat"]\n'
    return [*(file.read_bytes() for file in sorted(zoo.glob("*.toml"))), own]
