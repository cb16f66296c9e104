"""What every runtime offers: open a model's content, load a range of units, run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from edgemesh.protocol.manifest import Manifest


class LoadedRange(Protocol):
    """Units ``[start, stop)``, ready to run."""

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Outputs in the order of ``boundaries[stop]`` for inputs in the order of ``boundaries[start]``.

        The arrays may be non-contiguous and read-only; outputs stay valid after the next ``run``.
        Raises RunError.
        """
        ...

    @property
    def memory_bytes(self) -> int:
        """Weights plus activations it keeps resident (an estimate where the runtime does not tell)."""
        ...


class OpenModel(Protocol):
    """A model's content opened in this process, with its threads fixed."""

    def load(self, start: int, stop: int) -> LoadedRange:
        """Units ``[start, stop)`` ready to run; raises ModelError naming what cannot be split or run."""
        ...


class Runtime(Protocol):
    """One inference library."""

    name: str
    """``tflite`` or ``torch``: the manifest format it runs."""

    def version(self) -> str | None:
        """Version of the library for ``about`` and the profile cache; None when it is not installed."""
        ...

    def open(self, path: Path, manifest: Manifest, threads: int) -> OpenModel:
        """The content at ``path``; raises ModelError or MissingExtraError."""
        ...
