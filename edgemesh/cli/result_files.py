"""Files that ``edgemesh infer --save`` writes: annotated pictures and npy files, never over an input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgemesh.errors import InputError, SettingsError

if TYPE_CHECKING:
    from edgemesh.node.prepared_job import Result

_BESIDE_INPUTS = "-edgemesh"


class ResultFiles:
    """Writes one file (or several tensors) per input, under names that do not meet."""

    def __init__(self, directory: Path, inputs: Iterable[str]) -> None:
        """``inputs`` are the names of all inputs of the run; raises SettingsError."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"cannot make the folder {directory}: {error.strerror}") from None
        self._directory = directory
        self._taken = {Path(name).resolve() for name in inputs if name != "-"}
        # Among a person's own pictures holiday.png may be one although only holiday.jpg is an input.
        beside = directory.resolve() in {path.parent for path in self._taken}
        self._mark = _BESIDE_INPUTS if beside else ""

    def save(self, name: str, payload: bytes, result: Result) -> list[str]:
        """Paths written for the input ``name``; raises InputError when the picture or the disk forbids it."""
        stem = f"{'stdin' if name == '-' else Path(name).stem}{self._mark}"
        try:
            if "tensors" not in result.outputs and _is_picture(payload):
                return self._picture(stem, payload, result)
            return self._tensors(stem, result)
        except OSError as error:
            raise InputError(f"cannot write into {self._directory}: {error.strerror}") from None

    def _free(self, stem: str, endings: list[str]) -> list[Path]:
        """Paths that no input and no other result has."""
        number = 1
        while True:
            numbered = stem if number == 1 else f"{stem}-{number}"
            paths = [self._directory / f"{numbered}{ending}" for ending in endings]
            found = {path.resolve() for path in paths}
            if self._taken.isdisjoint(found):
                self._taken |= found
                return paths
            number += 1

    def _picture(self, stem: str, payload: bytes, result: Result) -> list[str]:
        from edgemesh.observe.annotate import annotate

        annotated = annotate(payload, result.outputs)
        (path,) = self._free(stem, [".png"])
        path.write_bytes(annotated)
        return [str(path)]

    def _tensors(self, stem: str, result: Result) -> list[str]:
        import numpy as np

        arrays = result.tensors
        endings = [".npy"] if len(arrays) == 1 else [f"-{i}.npy" for i in range(len(arrays))]
        paths = self._free(stem, endings)
        for path, array in zip(paths, arrays):
            np.save(path, array, allow_pickle=False)
        return [str(path) for path in paths]


def _is_picture(payload: bytes) -> bool:
    from edgemesh.model.inputs import recognise

    try:
        return recognise(payload, None, raw_bytes=-1) == "image"
    except InputError:
        return False  # a raw tensor
