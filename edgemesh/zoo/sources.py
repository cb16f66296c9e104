"""Where the definition of a torch model comes from: the zoo's networks, torchvision, or the operator's code.

Only for the operator's own machine: a source is Python that runs. Devices get the captured content.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.errors import ModelError, SettingsError, missing_extra
from edgemesh.protocol.manifest import ClassesOutput, ImageInput

if TYPE_CHECKING:
    import torch

IMAGENET = ImageInput(
    width=224,
    height=224,
    fit="crop",
    crop_fraction=0.875,
    channels="rgb",
    layout="nchw",
    mean=(123.675, 116.28, 103.53),
    scale=(1 / 58.395, 1 / 57.12, 1 / 57.375),
)
"""What networks trained on ImageNet take: the usual mean and deviation, times 255."""
IMAGENET_CLASSES = ClassesOutput(tensor="output", top_k=5, activation="softmax")

NETWORKS = ("alexnet", "mobilenetv2", "vgg16")
"""Functions of ``edgemesh.zoo.networks``."""
_TORCHVISION = "torchvision"


@dataclass(frozen=True)
class TorchSource:
    """A module in eval mode, tensors to call it with, and how images and scores are treated, if known."""

    module: torch.nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    image: ImageInput | None = None
    classes: ClassesOutput | None = None


def torch_source(source: str, weights: Path | None = None) -> TorchSource:
    """What ``source`` names: a network of ``NETWORKS``, ``torchvision:NAME``, or ``module:callable``.

    The callable takes nothing and returns a module and its example inputs, or a module that has them as
    ``example_inputs``. ``weights`` is a safetensors state dict to load into it. Raises SettingsError for a
    source of no known form, ModelError when it gives no module or the weights do not fit, MissingExtraError.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise missing_extra("torch", "torch") from None
    package, _, name = source.partition(":")
    if source in NETWORKS:
        found = _image_network(getattr(importlib.import_module("edgemesh.zoo.networks"), source)())
    elif package == _TORCHVISION and name:
        found = _from_torchvision(name)
    elif package and name:
        found = _from_callable(package, name)
    else:
        raise SettingsError(
            f"{source[:80]!r} is no source of a torch model: use one of {', '.join(NETWORKS)}, "
            "torchvision:NAME, or module:callable"
        )
    if weights is not None:
        _load_weights(found.module, weights)
    found.module.eval()
    return found


def _image_network(module: torch.nn.Module) -> TorchSource:
    import torch

    # Not zeros: the layout and closeness of every tensor are measured with it.
    example = torch.randn(1, 3, IMAGENET.height, IMAGENET.width, generator=torch.Generator().manual_seed(0))
    return TorchSource(module, (example,), IMAGENET, IMAGENET_CLASSES)


def _from_torchvision(name: str) -> TorchSource:
    try:
        models = importlib.import_module("torchvision.models")
    except ImportError:
        raise missing_extra(_TORCHVISION, _TORCHVISION) from None
    try:
        module = models.get_model(name, weights=None)
    except ValueError as error:
        raise ModelError(f"torchvision has no model {name[:80]!r}: {error}") from None
    return _image_network(module)


def _from_callable(package: str, name: str) -> TorchSource:
    import torch

    try:
        function = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{package}:{name} cannot be imported: {error}; run edgemesh in the folder it is in"
        ) from None
    made: Any = function()
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"{package}:{name} returned a {type(module).__name__}, not a torch.nn.Module")
    if inputs is None:
        inputs = getattr(module, "example_inputs", None)
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, Sequence) or not inputs:
        raise ModelError(
            f"{package}:{name} gives no example inputs: return (module, inputs), "
            "or a module with the attribute example_inputs"
        )
    return TorchSource(module, tuple(inputs))


def _load_weights(module: torch.nn.Module, weights: Path) -> None:
    try:
        safetensors = importlib.import_module("safetensors")
        tensors = importlib.import_module("safetensors.torch").load_file(weights)
    except ImportError:
        raise missing_extra("safetensors", "torch") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{weights} cannot be read as safetensors: {error}") from None
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(
            f"{weights} does not fit this network: {' '.join(str(error).split())[:300]}"
        ) from None
