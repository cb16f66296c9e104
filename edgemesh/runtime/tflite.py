"""The TensorFlow Lite runtime: ranges of a ``.tflite`` run as slices, each in an interpreter of its own."""

from __future__ import annotations

import importlib
import importlib.util
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.errors import ModelError, RunError, missing_extra
from edgemesh.model.structure import ModelStructure
from edgemesh.model.tflite_graph import read_graph
from edgemesh.model.tflite_slice import Slice, slice_model

if TYPE_CHECKING:
    import numpy as np

    from edgemesh.protocol.manifest import Boundary, Manifest
    from edgemesh.runtime.executor import LoadedRange, OpenModel

    Array = np.ndarray[Any, Any]

# The successor comes first, as the older one cannot be imported with NumPy 2.
_LIBRARIES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))


class TfliteRuntime:
    """``tflite-runtime`` or its successor ``ai-edge-litert``, whichever is installed."""

    name = "tflite"

    def version(self) -> str | None:
        """Such as ``tflite-runtime 2.14.0``; None when neither is installed."""
        from importlib import metadata

        for package, distribution in _LIBRARIES:
            if importlib.util.find_spec(package) is not None:
                try:
                    return f"{distribution} {metadata.version(distribution)}"
                except metadata.PackageNotFoundError:
                    return distribution
        return None

    def open(self, path: Path, manifest: Manifest, threads: int) -> OpenModel:
        """The model at ``path``, which must not change while open; raises ModelError, MissingExtraError."""
        return TfliteModel(path, manifest, threads)


class TfliteModel:
    """A ``.tflite`` mapped into memory, so that weights of other ranges need not be resident."""

    def __init__(self, path: Path, manifest: Manifest, threads: int) -> None:
        """Raises ModelError when the content at ``path`` is unusable."""
        try:
            with path.open("rb") as file:
                self._graph = read_graph(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
        except (OSError, ValueError) as error:
            raise ModelError(f"the content of model {manifest.name} cannot be read: {error}") from error
        except ModelError as error:
            raise ModelError(f"model {manifest.name}: {error}") from error
        self._name = manifest.name
        self._structure = ModelStructure(manifest.units, manifest.boundaries)
        self._threads = threads

    def load(self, start: int, stop: int) -> LoadedRange:
        """Units ``[start, stop)`` with tensors allocated; raises ModelError or MissingExtraError.

        The whole model too is run from rewritten content: the interpreter checks no offsets, so it gets none
        that this program did not write.
        """
        try:
            part = slice_model(self._graph, self._structure, start, stop)
        except ModelError as error:
            raise ModelError(f"model {self._name}: {error}") from error
        boundaries = self._structure.boundaries
        where = f"units {start} to {stop} of model {self._name}"
        if not part.content:
            return PassedThrough(part, boundaries[start])
        return LoadedSlice(part, boundaries[start], boundaries[stop], self._threads, where)


class PassedThrough:
    """A range that changes nothing that is still alive behind it."""

    def __init__(self, part: Slice, before: Boundary) -> None:
        """``before`` is the boundary at the start of the range."""
        self._places = [place for place in part.passes if place is not None]
        self._count = len(before)

    memory_bytes = 0

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Those of ``inputs`` that are alive at the end; raises RunError when their number is wrong."""
        if len(inputs) != self._count:
            raise RunError(f"{len(inputs)} tensors came for a boundary of {self._count}")
        return [inputs[place] for place in self._places]


class LoadedSlice:
    """A slice in its interpreter."""

    def __init__(self, part: Slice, before: Boundary, after: Boundary, threads: int, where: str) -> None:
        """``where`` names the range in errors; raises ModelError when the interpreter refuses the slice."""
        try:
            interpreter = _interpreter_class()(model_content=part.content, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{where} cannot be loaded: {error}") from error
        self._interpreter = interpreter
        self._where = where
        self._reset = interpreter.reset_all_variables if part.stateful else None
        self._before, self._after = before, after
        self._feeds = [
            (place, int(details["index"]))
            for place, details in zip(part.takes, interpreter.get_input_details(), strict=True)
        ]
        made = iter(int(details["index"]) for details in interpreter.get_output_details())
        self._results = [(place is not None, next(made) if place is None else place) for place in part.passes]
        # XNNPACK packs a second copy of the weights for its kernels.
        self.memory_bytes = 2 * len(part.content) + part.working_bytes

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See ``LoadedRange.run``; tensors passed through are returned as they came, others are copies."""
        if len(inputs) != len(self._before):
            raise RunError(f"{len(inputs)} tensors came for the {len(self._before)} that enter {self._where}")
        interpreter = self._interpreter
        try:
            if self._reset is not None:
                self._reset()
            for place, index in self._feeds:
                interpreter.set_tensor(index, inputs[place])
            interpreter.invoke()
            outputs = [
                inputs[number] if passed else interpreter.get_tensor(number)
                for passed, number in self._results
            ]
        except (ValueError, RuntimeError) as error:
            raise RunError(f"{self._where} failed: {error}") from error
        for output, spec in zip(outputs, self._after, strict=True):
            if output.shape != spec.shape:
                raise RunError(
                    f"{self._where} gave {spec.name!r} the shape {output.shape}, not {spec.shape} as expected"
                )
        return outputs


def _interpreter_class() -> Any:
    for package, _ in _LIBRARIES:
        if importlib.util.find_spec(package) is not None:
            return importlib.import_module(f"{package}.interpreter").Interpreter
    raise missing_extra("tflite-runtime", "tflite")
