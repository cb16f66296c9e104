"""Manifest of a model: its content, units, boundaries, and how inputs and outputs are treated."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.accuracy import CodecErrors, check_codec_errors
from edgemesh.protocol.fields import Amount, Check, Count, Digest, Fraction, Id

DType = Literal[
    "float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
    "uint64", "bool", "complex64",
]  # fmt: skip
DTYPE_BYTES: dict[str, int] = {
    "float32": 4, "float16": 2, "float64": 8, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4,
    "uint32": 4, "int64": 8, "uint64": 8, "bool": 1, "complex64": 8,
}  # fmt: skip

Format = Literal["tflite", "torch"]
"""How the content is stored, hence which runtime runs it."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor alive at a cut."""

    name: str
    dtype: DType
    shape: tuple[Annotated[int, Check("0 or more", lambda n: 0 <= n <= limits.ELEMENTS)], ...]

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes under codec ``raw``."""
        return self.elements * DTYPE_BYTES[self.dtype]


Boundary = tuple[TensorSpec, ...]


def boundary_bytes(boundary: Boundary) -> int:
    """Bytes of all tensors alive at a cut under codec ``raw``."""
    return sum(tensor.nbytes for tensor in boundary)


@dataclass(frozen=True)
class Unit:
    """The smallest stretch of layers that is never split."""

    name: str
    operators: Count
    macs: Count
    """Multiply-accumulates (0 for operators that only move or compare)."""
    weight_bytes: Count
    peak_bytes: Count
    """Largest sum of activations alive at once while it runs, inputs and outputs included."""


@dataclass(frozen=True)
class Quantization:
    """What a stored integer stands for: the real number ``(stored - zero_point) * scale``."""

    scale: Annotated[float, Check("more than 0", lambda x: x > 0.0)]
    zero_point: int = 0


@dataclass(frozen=True)
class ImageInput:
    """How an encoded image becomes the model's only input tensor: ``(pixel - mean) * scale``."""

    width: Annotated[int, Check("1 to 8192", lambda n: 1 <= n <= 8192)]
    height: Annotated[int, Check("1 to 8192", lambda n: 1 <= n <= 8192)]
    fit: Literal["letterbox", "crop", "stretch"] = "stretch"
    """``letterbox`` keeps all of the picture between black bars; ``crop`` takes the largest centred rectangle
    of the input's shape, shrunk by ``crop_fraction`` (224 of 256: 0.875)."""
    crop_fraction: Annotated[float, Check("0.01 to 1", lambda x: 0.01 <= x <= 1.0)] = 1.0
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["nhwc", "nchw"] = "nhwc"
    mean: tuple[float, ...] = (0.0,)
    """Per channel or one for all, in units of an 8-bit pixel (0-255)."""
    scale: tuple[float, ...] = (1.0 / 255.0,)
    """As ``mean``. An integer tensor takes the rounded value: uint8 mean 0 scale 1, int8 mean 128 scale 1."""

    def __post_init__(self) -> None:
        """Raise DecodeError when ``mean`` or ``scale`` fits neither one nor all channels."""
        for what, values in (("mean", self.mean), ("scale", self.scale)):
            if len(values) not in (1, self.depth):
                raise DecodeError(f"image {what} has {len(values)} entries for {self.depth} channels")

    @property
    def depth(self) -> int:
        """Number of channels."""
        return 1 if self.channels == "gray" else 3

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that one picture becomes."""
        if self.layout == "nchw":
            return (1, self.depth, self.height, self.width)
        return (1, self.height, self.width, self.depth)


@dataclass(frozen=True)
class AnchorGrid:
    """SSD anchors of one feature map: ``count`` at each cell centre of a ``rows`` x ``columns`` grid."""

    rows: Annotated[int, Check("1 to 1024", lambda n: 1 <= n <= 1024)]
    columns: Annotated[int, Check("1 to 1024", lambda n: 1 <= n <= 1024)]
    count: Annotated[int, Check("1 to 64", lambda n: 1 <= n <= 64)]


@dataclass(frozen=True)
class ClassesOutput:
    """Top-k of one score vector."""

    tensor: str
    top_k: Annotated[int, Check("1 to 1000", lambda n: 1 <= n <= 1000)] = 5
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    labels: tuple[str, ...] = ()
    """By index; an index without a label prints as its number."""
    quantization: Quantization | None = None
    """Of ``tensor``; it is applied before ``activation``."""


@dataclass(frozen=True)
class DetectionsOutput:
    """Boxes, scores and landmarks of an SSD head, relative to fixed-size anchors."""

    boxes: str
    """Tensor ``[1, anchors, 4 + 2 * landmarks]``: centre x, y, width, height, then landmark x, y pairs; all
    but width and height are relative to the anchor's centre, in units of ``input / box_span``."""
    scores: str
    """Tensor ``[1, anchors, classes]``."""
    anchors: tuple[AnchorGrid, ...]
    score_activation: Literal["none", "sigmoid"] = "sigmoid"
    score_clip: Amount = 100.0
    min_score: Fraction = 0.5
    max_overlap: Fraction = 0.3
    """Intersection over union above which two boxes are one object and are averaged by score."""
    max_boxes: Annotated[int, Check("1 to 1000", lambda n: 1 <= n <= 1000)] = 100
    labels: tuple[str, ...] = ()
    landmarks: tuple[str, ...] = ()
    box_span: Annotated[float, Check("more than 0", lambda x: x > 0.0)] = 1.0
    """The value in the box tensor that spans the whole input: its size in pixels, or 1 for fractions."""
    boxes_quantization: Quantization | None = None
    """Of ``boxes``; it is applied before anything else, as the next."""
    scores_quantization: Quantization | None = None

    @property
    def anchor_count(self) -> int:
        """Anchors of all grids together."""
        return sum(grid.rows * grid.columns * grid.count for grid in self.anchors)


@dataclass(frozen=True)
class Manifest:
    """What a mesh knows of a model; retained on ``model/<name>``."""

    name: Id
    digest: Digest
    """SHA-256 of the content."""
    format: Format
    size: Annotated[int, Check("1 byte to 8 GB", lambda n: 1 <= n <= limits.MODEL_BYTES)]
    units: tuple[Unit, ...]
    boundaries: tuple[tuple[TensorSpec, ...], ...]
    """One per cut: ``boundaries[0]`` are the inputs, ``boundaries[-1]`` the outputs."""
    chunk_bytes: Annotated[int, Check("1 to CHUNK_BYTES", lambda n: 1 <= n <= limits.CHUNK_BYTES)]
    chunks: tuple[Digest, ...]
    """SHA-256 of each stretch of ``chunk_bytes``, so that a bad chunk is known before the whole is there."""
    image: ImageInput | None = None
    classes: ClassesOutput | None = None
    detections: DetectionsOutput | None = None
    codec_errors: tuple[CodecErrors, ...] = ()
    """Measured after the model was added; a lossy codec that is missing here is not used."""
    revision: Count = 0
    """Which of two manifests under one name is the newer: the one with more."""

    def __post_init__(self) -> None:
        """Raise DecodeError where the parts contradict each other; readers need not check again."""
        if not 1 <= len(self.units) <= limits.UNITS:
            raise DecodeError(f"model {self.name} has {len(self.units)} units, not 1 to {limits.UNITS}")
        if len(self.boundaries) != len(self.units) + 1:
            raise DecodeError(
                f"model {self.name} has {len(self.boundaries)} boundaries for {len(self.units)} units"
            )
        for cut, boundary in enumerate(self.boundaries):
            if not 1 <= len(boundary) <= limits.TENSORS:
                raise DecodeError(f"cut {cut} of model {self.name} has {len(boundary)} tensors")
            for tensor in boundary:
                if len(tensor.shape) > limits.RANK or tensor.nbytes > limits.TENSOR_BYTES:
                    raise DecodeError(f"tensor {tensor.name[:60]!r} of model {self.name} is too large")
        if len(self.chunks) != -(-self.size // self.chunk_bytes) or len(self.chunks) > limits.CHUNKS:
            raise DecodeError(f"model {self.name} has {len(self.chunks)} chunks for {self.size} bytes")
        check_codec_errors(self.codec_errors, len(self.boundaries), self.name)
        _check_treatment(self)

    def revised(self, before: Manifest | None, seconds: float) -> Manifest:
        """The same as the newest under its name, ``seconds`` after 1970, where there was ``before`` so far.

        The time, so that it is newer than what a broker or a device that was away brings back; one more than
        what there was, for a clock that is behind.
        """
        known = before.revision + 1 if before is not None else 0
        return replace(self, revision=max(known, int(seconds)))

    @property
    def unit_count(self) -> int:
        """``U``; the last cut has this number."""
        return len(self.units)


def _check_treatment(manifest: Manifest) -> None:
    """Raise DecodeError where the declared image, classes or detections do not fit the model's tensors."""
    if manifest.image is not None:
        found = [tensor.shape for tensor in manifest.boundaries[0]]
        if found != [manifest.image.shape]:
            raise DecodeError(
                f"the image of model {manifest.name} makes one input of shape {manifest.image.shape}, "
                f"but its inputs have the shapes {found}"
            )
    if manifest.classes is not None:
        _output_spec(manifest, manifest.classes.tensor)
    if manifest.detections is not None:
        declared = manifest.detections
        boxes, scores = _output_spec(manifest, declared.boxes), _output_spec(manifest, declared.scores)
        anchors, values = declared.anchor_count, 4 + 2 * len(declared.landmarks)
        if len(boxes.shape) != 3 or boxes.shape[:2] != (1, anchors) or boxes.shape[2] < values:
            raise DecodeError(
                f"boxes of model {manifest.name}: {boxes.shape}, not (1, {anchors}, {values} or more)"
            )
        if len(scores.shape) != 3 or scores.shape[:2] != (1, anchors) or scores.shape[2] < 1:
            raise DecodeError(
                f"scores of model {manifest.name}: {scores.shape}, not (1, {anchors}, 1 or more)"
            )


def _output_spec(manifest: Manifest, name: str) -> TensorSpec:
    for tensor in manifest.boundaries[-1]:
        if tensor.name == name and tensor.elements and tensor.dtype != "complex64":
            return tensor
    names = ", ".join(tensor.name for tensor in manifest.boundaries[-1])
    raise DecodeError(
        f"model {manifest.name} has no real-valued output {name!r}; its outputs are {names}"[:400]
    )
