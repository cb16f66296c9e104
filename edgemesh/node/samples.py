"""Sample inputs of a model, to measure on: files of a person's own, the demo's photograph, or noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgemesh.errors import InputError
from edgemesh.node.input_files import file_bytes
from edgemesh.protocol.manifest import Manifest
from edgemesh.runtime.made_up import made_up_inputs
from edgemesh.runtime.payloads import input_tensors
from edgemesh.runtime.variations import varied_photographs
from edgemesh.zoo.photograph import demo_photograph

Arrays = list[np.ndarray[Any, Any]]

SAMPLES: Final = 256
"""More would take the patience out of a check that runs each of them twice per cut."""
_NOISE_SAMPLES: Final = 8


@dataclass(frozen=True)
class Samples:
    """Inputs in the order of ``boundaries[0]``, one entry per sample, and what they are."""

    inputs: tuple[Arrays, ...]
    described: str


def given_samples(manifest: Manifest, paths: Sequence[Path]) -> Samples:
    """The samples in files (pictures, npy, raw or msgpack tensors); raises InputError naming the file."""
    if len(paths) > SAMPLES:
        raise InputError(f"{len(paths)} sample files, more than {SAMPLES}: name fewer")
    inputs = []
    for path in paths:
        try:
            inputs.append(input_tensors(manifest, file_bytes(path)).tensors)
        except InputError as error:
            raise InputError(f"sample {path}: {error}") from None
    return Samples(tuple(inputs), f"{len(inputs)} given file{'s' * (len(inputs) != 1)}")


def default_samples(manifest: Manifest) -> Samples:
    """The demo's photograph and variations of it, or seeded noise for a model that takes no picture.

    Raises MissingExtraError where the photograph, or what reads it, is not installed.
    """
    if manifest.image is None:
        noise = [made_up_inputs(manifest.boundaries[0], seed) for seed in range(_NOISE_SAMPLES)]
        return Samples(tuple(noise), f"{_NOISE_SAMPLES} tensors of noise, as the model takes no picture")
    pictures = varied_photographs(file_bytes(demo_photograph()))
    inputs = tuple(input_tensors(manifest, picture).tensors for picture in pictures)
    return Samples(inputs, f"the demo's photograph and {len(pictures) - 1} variations of it")
