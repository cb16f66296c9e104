"""How inputs and outputs are treated: as a person or a source declares, else as its file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgemesh.device.toml_text import parse_toml
from edgemesh.errors import DecodeError, SettingsError
from edgemesh.model.quantization import pixel_values
from edgemesh.protocol.fields import from_plain
from edgemesh.protocol.manifest import Boundary, ClassesOutput, DetectionsOutput, ImageInput, Quantization
from edgemesh.protocol.unknown_keys import unknown_field
from edgemesh.zoo.catalogue import ZooEntry

_SENTENCE = 500
"""Characters: a key that is not known may be as long as its file."""


@dataclass(frozen=True)
class Treatment:
    """How inputs and outputs are treated; whatever is given here wins over what the source declares."""

    image: ImageInput | None = None
    classes: ClassesOutput | None = None
    detections: DetectionsOutput | None = None
    unsaid: tuple[str, ...] = ()
    """Fields of the image that nobody gave, so that it is what the model's input takes."""

    def over(self, declared: Treatment) -> Treatment:
        """This, and what ``declared`` says beyond it."""
        return Treatment(
            self.image or declared.image,
            self.classes or declared.classes,
            self.detections or declared.detections,
            self.unsaid if self.image else declared.unsaid,
        )

    def of_model(self, boundaries: Sequence[Boundary], quantization: Mapping[str, Quantization]) -> Treatment:
        """With what the tensors of a model say themselves; ``quantization`` is theirs, by name."""
        return replace(
            self,
            image=self._image(boundaries[0], quantization),
            classes=self._classes(boundaries[-1], quantization),
            detections=self._detections(quantization),
            unsaid=(),
        )

    def _image(self, inputs: Boundary, quantization: Mapping[str, Quantization]) -> ImageInput | None:
        if self.image is None or not self.unsaid:
            return self.image
        assumed = pixel_values(inputs[0].dtype, quantization.get(inputs[0].name))
        return replace(self.image, **{name: assumed[name] for name in self.unsaid})  # type: ignore[arg-type]

    def _classes(self, outputs: Boundary, quantization: Mapping[str, Quantization]) -> ClassesOutput | None:
        if self.classes is None:
            return None
        # A classifier has one output whatever its file calls it.
        tensor = outputs[0].name if len(outputs) == 1 else self.classes.tensor
        own = self.classes.quantization or quantization.get(tensor)
        return replace(self.classes, tensor=tensor, quantization=own)

    def _detections(self, quantization: Mapping[str, Quantization]) -> DetectionsOutput | None:
        declared = self.detections
        if declared is None:
            return None
        return replace(
            declared,
            boxes_quantization=declared.boxes_quantization or quantization.get(declared.boxes),
            scores_quantization=declared.scores_quantization or quantization.get(declared.scores),
        )


def read_treatment(path: Path) -> Treatment:
    """The tables ``[image]``, ``[classes]`` and ``[detections]`` of a TOML file; raises SettingsError."""
    try:
        return parse_treatment(path.read_text("utf-8"), path)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: {error}") from None


def parse_treatment(text: str, path: Path) -> Treatment:
    """The treatment in the TOML ``text`` of a file; raises SettingsError naming the file."""
    try:
        plain = parse_toml(text)
        # An entry of the zoo is a treatment file, too: it says more.
        if (unknown := unknown_field(ZooEntry, plain)) is not None:
            raise SettingsError(f"{path}: {unknown[:_SENTENCE]}")
        treatment = from_plain(Treatment, plain)
    except (ValueError, DecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if treatment.image is None:
        return treatment
    return replace(treatment, unsaid=tuple(name for name in ("mean", "scale") if name not in plain["image"]))
