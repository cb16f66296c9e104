"""What any release of this major version ever wrote is read by this one, with the same meaning.

A failure of the second test is a new message: ``python -m tests.protocol.record`` records it. A failure of
any other is a break with devices that are deployed: mend the code, never the recorded file.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edgemesh.protocol.fields import to_plain
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.presence import decode_state
from edgemesh.protocol.tensors import decode_tensors
from tests.protocol.make_golden import golden_payloads
from tests.protocol.messages import JSON_MESSAGES
from tests.protocol.record import RECORDED_FRAMES, SUMS, folders, sums_of
from tests.protocol.test_golden import assert_like

FILES = [folder / name for folder in folders() for name in sums_of(folder)]


def named(suffix: str) -> Any:
    paths = [path for path in FILES if path.suffix == suffix]
    return pytest.mark.parametrize("path", paths, ids=lambda path: f"{path.parent.name}/{path.name}")


def holds(found: Any, recorded: Any) -> bool:
    """Whether ``found`` says all that was recorded; a later minor version may say more."""
    if isinstance(recorded, dict):
        return isinstance(found, dict) and all(
            key in found and holds(found[key], value) for key, value in recorded.items()
        )
    if isinstance(recorded, list):
        return len(found) == len(recorded) and all(map(holds, found, recorded))
    return bool(found == recorded)


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_a_recorded_file_is_never_changed_removed_or_slipped_in(folder: Path) -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != SUMS
    }

    assert found == sums_of(folder)


def test_every_message_that_is_written_today_is_recorded() -> None:
    wanted = {*golden_payloads(), *(f"{name}.bin" for name in RECORDED_FRAMES)}

    assert wanted <= {path.name for path in FILES}


@named(".json")
def test_recorded_json_is_read_with_all_that_it_said(path: Path) -> None:
    recorded = path.read_bytes()

    message = decode_json(type(JSON_MESSAGES[path.stem]), recorded)

    assert holds(to_plain(message), json.loads(recorded))


@named(".bin")
def test_a_recorded_frame_is_read_with_all_that_it_said(path: Path) -> None:
    recorded, frame = path.read_bytes(), RECORDED_FRAMES[path.stem]

    header, body = frame.decode(recorded)

    (length,) = struct.unpack_from("<I", recorded, 4)
    assert holds(to_plain(header), msgpack.unpackb(recorded[8 : 8 + length]))
    if frame.arrays is not None:
        found, sent = decode_tensors(body), frame.arrays()
        assert len(found) == len(sent)
        for got, wanted in zip(found, sent):
            assert_like(got, wanted, frame.codec.partition("+")[0])


@pytest.mark.parametrize("word", ["online", "stopped", "offline"])
def test_the_words_of_a_state_stay(word: str) -> None:
    assert decode_state(word.encode()) == word
