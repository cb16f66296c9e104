"""Every reader of what others write is fuzzed: readers are found in the code, and a target must run each.

There is no list of readers that somebody would have to keep. A function is one where it takes bytes or
text apart with one of the ``_PRIMITIVES``, or where it has a reader's name and is given bytes or text; the
seeds of the targets are read under a tracer. A new decoder that no target reaches fails here until it has a
target, or a reason why not. What only indexes or slices bytes under another name is not seen.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fuzzing.targets import targets

import edgemesh

ROOT = Path(edgemesh.__file__).parent

_PRIMITIVES = (
    "decode", "decode_tensors", "decompress", "from_buffer", "from_bytes", "from_plain", "frombuffer",
    "fromhex", "fromstring", "get_service_info", "iter_unpack", "loads", "np.load", "PIL.Image.open",
    "plain_json", "recv", "recv_into", "recvfrom", "unpack", "unpack_from", "unpack_map", "unpackb",
    "urlsplit", "zipfile.ZipFile",
)  # fmt: skip
"""Calls that take bytes or text apart, by the end of their names."""
_NAMES = ("decode_", "parse_", "read_", "unpack_")
_FOREIGN = ("bytes", "bytearray", "memoryview", "str", "socket", "BinaryIO")
"""Types of what a reader is given; one that only has a path passes the file's bytes on."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A function of edgemesh that reads."""

    name: str
    """As in ``roles/plug_payloads.py plug_report``."""
    file: str
    line: int


@cache
def _readers() -> tuple[Reader, ...]:
    return tuple(reader for path in sorted(ROOT.rglob("*.py")) for reader in readers_of(path))


def readers_of(path: Path) -> Iterator[Reader]:
    """Those of one file; a function in a function counts by itself."""
    where = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    for name, function in _functions(ast.parse(path.read_text(encoding="utf-8"))):
        if _takes_apart(function) or _is_called_so(function):
            first = function.decorator_list[0] if function.decorator_list else function
            yield Reader(f"{where} {name}", str(path), first.lineno)


def _functions(
    tree: ast.AST, outer: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        inner = f"{outer}.{node.name}".lstrip(".") if named else outer
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield inner, node
        yield from _functions(node, inner)


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node
            yield from _own_nodes(node)


def _takes_apart(function: ast.AST) -> bool:
    calls = [f".{ast.unparse(node.func)}" for node in _own_nodes(function) if isinstance(node, ast.Call)]
    return any(called.endswith(f".{name}") for called in calls for name in _PRIMITIVES)


def _is_called_so(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if not function.name.lstrip("_").startswith(_NAMES):
        return False
    given = [each.annotation for each in function.args.args if each.annotation is not None]
    return any(word in ast.unparse(hint) for hint in given for word in _FOREIGN)


@cache
def _run_by(name: str) -> frozenset[tuple[str, int]]:
    """File and first line of all functions that run as a target reads its seeds."""
    reached: set[tuple[str, int]] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            reached.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    target = targets()[name]
    seeds = list(target.seeds())
    _forget()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for payload in seeds:
            target.outcome(payload)
    finally:
        sys.setprofile(before)
    return frozenset(reached)


def _forget() -> None:
    """What was read before would not be read again where it is kept, as a table of tensors is."""
    for name, module in list(sys.modules.items()):
        if name.startswith("edgemesh."):
            for kept in vars(module).values():
                getattr(kept, "cache_clear", lambda: None)()


def _missed_by(names: Iterable[str]) -> set[str]:
    """Readers that none of these targets runs."""
    reached = frozenset().union(*map(_run_by, names))
    return {reader.name for reader in _readers() if (reader.file, reader.line) not in reached}


_ELSEWHERE = {
    # Not from outside.
    "device/procfs.py text_of": "the kernel's, decoded with replacements",
    "device/power/ina.py I2cDevice.read": "two bytes of a chip",
    "device/power/ina.py chip_watts": "a number of 16 bits",
    "device/throttling.py parse_throttled": "the firmware's",
    "node/content_store.py ContentStore.read_chunk": "bytes as they are",
    "node/local_lane.py _connected": "the kernel's",
    "node/prepared_job.py _checked_route": "the program's own argument",
    "roles/answered.py AnsweredRecord.answers": "a result of our own",
    "runtime/channel.py BlockingReader._fill": "of the agent, which started this process",
    "runtime/channel.py BlockingReader.read": "of the agent, which started this process",
    "zoo/catalogue.py zoo_entry": "a file of the package",
    "zoo/wheels.py _member": "a file with a hash that was looked at first",
    # What the decoder gives, which has a target, is handed on or compared with what was wanted.
    "node/prepared_job.py Result.tensors": "a section",
    "runtime/worker_process.py ExecutorCore._run": "a section, compared with the boundary",
    # What is done with it cannot fail, and nothing of it is believed.
    "node/content_sweep.py ContentSweep.hear": "64 digits by a pattern, compared as a whole",
    "roles/meter.py Meter._probe_returned": "a token, decoded with replacements and compared as a whole",
    "transport/last_words.py LastWords.text": "shown as text, decoded with replacements",
    # No bytes from outside at all, for all their names.
    "device/codec_speed.py _is_usable": "reads what it wrote itself",
    "device/codec_speed.py measured_codec_speeds": "reads what it wrote itself",
    "node/codec_check.py _cut_figures.figure": "reads what it wrote itself",
    "node/model_check.py _checked_cut": "reads what it wrote itself",
    "device/identity.py default_device_id": "makes an id of the host's name",
    "node/mesh_reader.py read_mesh": "what arrives is read by others",
    "node/model_adder.py _check_readable": "reads what it wrote itself",
    "node/plan_questions.py asked_what_if.ask": "the program's own argument",
    "node/policy_change.py check_policy": "the program's own argument",
    "node/policy_change.py read_plans": "what arrives is read by others",
    "observe/textchart.py _escaped": "our own text, in the terminal's encoding",
    "protocol/tensors.py _bytes_of": "writes",
}
"""Readers without a target, and why. One that a target reaches must not be here."""
_SIMULATED = "simulation/"
"""What a simulation reads it has written itself; its scenarios have a target all the same."""
_ONLY_KEPT = {"HistoryRecord": "historyresponse"}
"""Message to a target that reads it as a part of another."""


def test_there_is_a_target_for_every_reader() -> None:
    missed = {name for name in _missed_by(targets()) if not name.startswith(_SIMULATED)}

    assert sorted(missed - _ELSEWHERE.keys()) == [], (
        "give these a target in tools/fuzzing, or say why they need none"
    )
    assert sorted(_ELSEWHERE.keys() - missed) == [], "these have a target, or are gone: they need no excuse"


@pytest.mark.parametrize(
    ("target", "reader"),
    [
        ("lane-job", "node/local_lane.py unpack_job"),
        ("lane-end", "node/local_lane.py unpack_ended"),
        ("executor", "node/executor.py _Incoming.read"),
        ("greeting", "transport/greeting.py greeting"),
        ("first-packet", "transport/protocol_front.py protocol_level"),
        ("packet", "transport/paho_client.py PahoClient._handle_publish"),
        ("mdns", "transport/discovery.py announced"),
        ("board", "device/boards.py parse_board"),
        ("treatment", "node/treatment.py parse_treatment"),
        ("outputs", "node/rendering.py rendered_outputs"),
        ("plug", "roles/plug_payloads.py _word"),
    ],
)
def test_a_target_that_is_taken_away_would_be_noticed(target: str, reader: str) -> None:
    others = targets().keys() - {target}

    assert reader not in _missed_by(targets())
    assert reader in _missed_by(others)


def _messages() -> dict[str, str]:
    """Class to file of what edgemesh decodes by name with ``decode_json``."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        if path.relative_to(ROOT).as_posix().startswith(_SIMULATED):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("decode_json")
            if called and isinstance(node.args[0], ast.Name) and node.args[0].id[0].isupper():
                found[node.args[0].id] = str(path)
    return found


def test_there_is_a_target_for_every_json_message_that_is_decoded() -> None:
    names = targets().keys()

    missed = [cls for cls in _messages() if _ONLY_KEPT.get(cls, cls.lower()) not in names]

    assert len(_messages()) > 10
    assert not missed, "add a sample to tests/protocol/messages.py: that makes the target"


@pytest.mark.parametrize(
    "source",
    [
        "def volts(payload: bytes) -> float:\n    return struct.unpack('<f', payload)[0]",
        "class Beacon:\n    def heard(self, payload):\n        return json.loads(payload)['at']",
        "def outer():\n    def heard(packet):\n        return int.from_bytes(packet[:2], 'big')",
        "def parse_beacon(text: str) -> tuple[str, ...]:\n    return tuple(text.split(';'))",
        "async def heard(sock):\n    return unpack_map(await sock.read(), dict)",
    ],
    ids=["struct", "json", "inner", "name", "ours"],
)
def test_a_new_decoder_would_be_noticed(source: str, tmp_path: Path) -> None:
    file = tmp_path / "beacon.py"
    file.write_text(source)

    (reader,) = readers_of(file)

    assert not any((reader.file, reader.line) in _run_by(name) for name in targets())


def test_what_takes_nothing_apart_is_no_reader(tmp_path: Path) -> None:
    file = tmp_path / "beacon.py"
    file.write_text("def read_all(count: int) -> int:\n    return sum(range(count))\n")

    assert list(readers_of(file)) == []
