"""Options of ``edgemesh model add`` that say how inputs and outputs are treated."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from edgemesh.errors import DecodeError, ModelError, SettingsError

if TYPE_CHECKING:
    from edgemesh.node.treatment import Treatment
    from edgemesh.protocol.manifest import ImageInput, Manifest, Quantization

Fit = Literal["letterbox", "crop", "stretch"]


def _extent(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{value!r} is no size such as 224x224")
    return int(width), int(height)


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise click.BadParameter(f"{value!r} is no list of numbers such as 123.7,116.3,103.5")
    return numbers


@dataclass(frozen=True)
class TreatmentFlags:
    """What was given on the command line; it wins over the file, which wins over the source."""

    file: Path | None
    extent: tuple[int, int] | None
    mean: tuple[float, ...] | None
    scale: tuple[float, ...] | None
    fit: Fit | None
    labels: Path | None
    top_k: int | None

    def from_file(self) -> Treatment:
        """The treatment of the file; raises SettingsError."""
        from edgemesh.node.treatment import Treatment, read_treatment

        return Treatment() if self.file is None else read_treatment(self.file)

    def applied(self, manifest: Manifest, content: Path) -> Manifest:
        """The manifest with the flags; raises SettingsError, ModelError where they do not fit the model."""
        from edgemesh.node.model_import import quantization_of

        known = quantization_of(content, manifest.format)
        try:
            return replace(
                manifest, image=self._image(manifest, known), classes=self._classes(manifest, known)
            )
        except DecodeError as error:
            raise ModelError(str(error)) from None

    def _image(self, manifest: Manifest, known: Mapping[str, Quantization]) -> ImageInput | None:
        image = manifest.image
        if self.extent is not None:
            image = _image_of(manifest, known, *self.extent)
        given = {"mean": self.mean, "scale": self.scale, "fit": self.fit}
        given = {name: value for name, value in given.items() if value is not None}
        if given and image is None:
            raise SettingsError(
                f"--{next(iter(given))} is about a picture: say its size too, with --image WxH"
            )
        return None if image is None else replace(image, **given)  # type: ignore[arg-type]

    def _classes(self, manifest: Manifest, known: Mapping[str, Quantization]) -> Any:
        from edgemesh.protocol.manifest import ClassesOutput

        classes = manifest.classes
        if self.labels is None and self.top_k is None:
            return classes
        if classes is None:
            if len(manifest.boundaries[-1]) != 1:
                names = ", ".join(tensor.name for tensor in manifest.boundaries[-1])
                raise SettingsError(
                    f"{manifest.name} has the outputs {names}: say which has the classes, in the table "
                    "[classes] of a file for --treatment"
                )
            name = manifest.boundaries[-1][0].name
            classes = ClassesOutput(name, quantization=known.get(name))
        labels = classes.labels if self.labels is None else _label_lines(self.labels)
        top_k = classes.top_k if self.top_k is None else self.top_k
        return replace(classes, labels=labels, top_k=top_k)


def _image_of(manifest: Manifest, known: Mapping[str, Quantization], width: int, height: int) -> ImageInput:
    """The picture of this size that makes the model's input, whichever its layout; raises SettingsError."""
    from edgemesh.model.quantization import pixel_values
    from edgemesh.protocol.manifest import ImageInput

    shapes = [tensor.shape for tensor in manifest.boundaries[0]]
    taken = manifest.boundaries[0][0]
    values = pixel_values(taken.dtype, known.get(taken.name))
    base = ImageInput(width, height, mean=values["mean"], scale=values["scale"])
    for layout in ("nhwc", "nchw"):
        for channels in ("rgb", "gray"):
            image = replace(base, layout=layout, channels=channels)
            if shapes == [image.shape]:
                return image
    raise SettingsError(f"--image {width}x{height} does not fit {manifest.name}, whose inputs are {shapes}")


def _label_lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text("utf-8-sig")  # as editors of Windows write it, too
    except OSError as error:
        raise SettingsError(f"cannot read the labels {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the labels {path} are no UTF-8 text, one label a line") from None
    return tuple(line.strip() for line in text.rstrip().splitlines())


def treatment_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options, handed on as ``flags``."""

    @click.option(
        "--treatment",
        "file",
        type=click.Path(path_type=Path),
        metavar="FILE.toml",
        help="Tables [image], [classes] and [detections].",
    )
    @click.option(
        "--image", "extent", metavar="WxH", callback=_extent, help="The input is a picture of this size."
    )
    @click.option(
        "--mean",
        metavar="X[,X,X]",
        callback=_numbers,
        help="Subtracted from each pixel (0-255); default 0, for an int8 input 128.",
    )
    @click.option(
        "--scale",
        metavar="X[,X,X]",
        callback=_numbers,
        help="Then multiplied. Default: 1/255 for floats (0 to 1), 1 for integers: those of 8 bits are taken "
        "to span what the model knows from black to white. Quantised ones of more bits get a real 0 to 1.",
    )
    @click.option(
        "--fit",
        type=click.Choice(get_args(Fit)),
        help="How a picture of another shape is fitted (default: stretch).",
    )
    @click.option("--labels", type=click.Path(path_type=Path), help="Labels of the classes, one a line.")
    @click.option(
        "--top-k", type=click.IntRange(1, 1000), help="How many classes a result names (default: 5)."
    )
    @functools.wraps(function)
    def with_flags(
        *args: Any,
        file: Path | None,
        extent: tuple[int, int] | None,
        mean: tuple[float, ...] | None,
        scale: tuple[float, ...] | None,
        fit: Fit | None,
        labels: Path | None,
        top_k: int | None,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        return function(*args, flags=TreatmentFlags(file, extent, mean, scale, fit, labels, top_k), **kwargs)

    return with_flags
