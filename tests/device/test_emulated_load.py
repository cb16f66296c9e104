from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edgemesh.device.emulated_load import FILE, EmulatedLoad, is_emulated, mark_emulated, set_emulated_load


def test_a_load_is_seen_when_it_comes_changes_and_goes(tmp_path: Path) -> None:
    load = EmulatedLoad(tmp_path)
    seen = [load.times]
    for times in (3.0, 4.5, 1.0):
        set_emulated_load(tmp_path, times)
        seen.append(load.times)

    assert seen == [1.0, 3.0, 4.5, 1.0]


@pytest.mark.parametrize("text", ["", "nan", "-3", "1e9", "a few", "0.5"])
def test_what_is_no_load_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)

    assert EmulatedLoad(tmp_path).times == 1.0


def test_other_programs_take_the_rest_of_the_processor(tmp_path: Path) -> None:
    set_emulated_load(tmp_path, 4.0)
    load = EmulatedLoad(tmp_path)

    assert load.busy_with(0.0) == pytest.approx(0.75)
    assert load.busy_with(0.5) == 1.0


@pytest.mark.parametrize("times", [0.5, 101.0, float("nan")])
def test_a_load_out_of_range_is_refused(tmp_path: Path, times: float) -> None:
    with pytest.raises(ValueError, match="between 1 and 100"):
        set_emulated_load(tmp_path, times)


def test_a_load_ends_with_the_board_that_it_was_made_up_for(tmp_path: Path) -> None:
    set_emulated_load(tmp_path, 4.0)

    mark_emulated(tmp_path, emulated=True)

    assert EmulatedLoad(tmp_path).times == 1.0


@pytest.mark.parametrize("emulated", [True, False])
def test_a_device_starts_on_a_disk_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulated: bool
) -> None:
    """Found by a reader: a read-only disk refuses to delete even what is not there."""
    mark_emulated(tmp_path, emulated=emulated)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "touch", refuse)

    mark_emulated(tmp_path, emulated=emulated)
    assert is_emulated(tmp_path) is emulated
