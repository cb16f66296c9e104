"""What is read of the files that a person names."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.errors import InputError
from edgemesh.node import input_files
from edgemesh.node.input_files import file_bytes


def test_a_file_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by a reader: /dev/zero filled the memory."""
    monkeypatch.setattr(input_files, "INPUT_BYTES", 3 << 20)

    with pytest.raises(InputError, match="/dev/zero has more than the 3 MiB that an input can have"):
        file_bytes(Path("/dev/zero"))


def test_all_of_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "INPUT_BYTES", 3 << 20)
    for size in (0, 5, (1 << 20) + 3, 3 << 20):
        path = tmp_path / str(size)
        path.write_bytes(bytes(range(256)) * (size // 256) + b"\1" * (size % 256))

        assert file_bytes(path) == path.read_bytes() and path.stat().st_size == size
