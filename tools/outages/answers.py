"""The inputs of a run and the right answer to each, made by running the model once in this process."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.models import BenchModel
from benchmarks.report import NotMeasurableError

from edgemesh.errors import MissingExtraError
from edgemesh.node.rendering import result_message
from edgemesh.protocol.tensors import section_bytes
from edgemesh.roles.actions import JobEnded
from edgemesh.runtime.payloads import input_tensors
from edgemesh.runtime.tflite import TfliteModel
from edgemesh.zoo.photograph import demo_photograph

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Question:
    """One input with its answer."""

    payload: bytes
    """A picture as an app publishes it."""
    tensors: list[Array]
    """The outputs, bit for bit."""
    outputs: dict[str, Any]
    """As on ``result/<model>``."""


def questions(model: BenchModel, count: int) -> list[Question]:
    """``count`` cuttings of a photograph whose answers all differ; raises NotMeasurableError."""
    loaded = TfliteModel(model.path, model.manifest, 1).load(0, model.manifest.unit_count)
    found: dict[str, Question] = {}
    for payload in _pictures(2 * count):
        inputs = input_tensors(model.manifest, payload)
        tensors = [np.array(tensor) for tensor in loaded.run(inputs.tensors)]
        ended = JobEnded("", model.manifest.name, 0.0, section=section_bytes(tensors))
        outputs = result_message(ended, model.manifest, inputs.placement).outputs
        plain = json.loads(json.dumps(outputs))
        found.setdefault(json.dumps(plain, sort_keys=True), Question(payload, tensors, plain))
        if len(found) == count:
            return list(found.values())
    raise NotMeasurableError(f"only {len(found)} different answers to {2 * count} pictures")


def _pictures(count: int) -> list[bytes]:
    try:
        from PIL import Image

        photograph = Image.open(demo_photograph()).convert("RGB")
    except (ImportError, MissingExtraError) as error:
        raise NotMeasurableError(f"the photograph cannot be had: {error}") from None
    side = min(photograph.size)
    pictures = []
    for number in range(count):
        # Each a little further down and larger: the face stays on the picture and lies elsewhere on it.
        span = int(side * (0.8 + 0.2 * number / count))
        left, top = (side - span) * (number % 3) // 2, 2 * (number % 7)
        stored = io.BytesIO()
        photograph.crop((left, top, left + span, top + span)).resize((192, 192)).save(stored, "PNG")
        pictures.append(stored.getvalue())
    return pictures
