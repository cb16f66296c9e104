"""The models that are measured, in folders with their manifests: every process can open them."""

from __future__ import annotations

import importlib.util
import math
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import NotMeasurableError
from edgemesh.errors import EdgemeshError
from edgemesh.model.flatbuffer import Table, flatbuffer_of
from edgemesh.model.tflite_schema import BUILTIN_OPERATORS, SCHEMA
from edgemesh.node.model_import import ImportOptions, Treatment, import_model, manifest_of
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest, boundary_bytes
from edgemesh.runtime.registry import installed_runtimes

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BenchModel:
    """Content and manifest in one folder."""

    folder: Path
    path: Path
    manifest: Manifest

    def inputs(self) -> list[np.ndarray[Any, Any]]:
        """Noise of the input's shape; never zeros, which kernels may skip."""
        generator = np.random.default_rng(1)
        return [
            generator.standard_normal(tensor.shape).astype(tensor.dtype)
            for tensor in self.manifest.boundaries[0]
        ]

    def middle_cut(self) -> int:
        """A cut near the middle of the compute: of those that leave each side a quarter, the smallest."""
        units = self.manifest.units
        total = sum(unit.macs for unit in units)
        before = 0
        found = []
        for cut in range(1, len(units)):
            before += units[cut - 1].macs
            share = before / total
            balanced = 0.25 <= share <= 0.75
            found.append((not balanced, boundary_bytes(self.manifest.boundaries[cut]), abs(share - 0.5), cut))
        return min(found)[3]


def kept(folder: Path, path: Path, manifest: Manifest) -> BenchModel:
    """A model whose manifest lies beside its content."""
    (folder / "manifest.json").write_bytes(encode_json(manifest))
    if path != folder / "content":
        (folder / "content").symlink_to(path.resolve())
    return BenchModel(folder, folder / "content", manifest)


def opened(folder: Path) -> BenchModel:
    """What ``kept`` left."""
    manifest = decode_json(Manifest, (folder / "manifest.json").read_bytes())
    return BenchModel(folder, folder / "content", manifest)


def echo_model(folder: Path, nbytes: int) -> BenchModel:
    """One element-wise operator on ``nbytes`` bytes of float32: all that a hop costs but the compute."""
    require("tflite")
    shape = memoryview(array("i", [1, nbytes // 4]))
    operator = BUILTIN_OPERATORS.index("NEG")
    content: Table = {
        "version": 3,
        "operator_codes": [{"version": 1, "builtin_code": operator, "deprecated_builtin_code": operator}],
        "subgraphs": [
            {
                "tensors": [{"shape": shape, "name": b"x"}, {"shape": shape, "name": b"y"}],
                "inputs": memoryview(array("i", [0])),
                "outputs": memoryview(array("i", [1])),
                "operators": [
                    {"inputs": memoryview(array("i", [0])), "outputs": memoryview(array("i", [1]))}
                ],
            }
        ],
        "buffers": [{}],
    }
    folder.mkdir(parents=True)
    path = folder / "content"
    path.write_bytes(flatbuffer_of(content, SCHEMA, "Model", b"TFL3"))
    return kept(folder, path, manifest_of(path, f"echo-{nbytes}", "tflite", Treatment()))


def zoo_model(folder: Path, name: str) -> BenchModel:
    """A model of the zoo."""
    require("tflite" if name == "face" else "torch")
    folder.mkdir(parents=True)
    try:
        path, manifest = import_model(f"zoo:{name}", name, folder / "import", ImportOptions())
    except EdgemeshError as error:
        raise NotMeasurableError(f"zoo:{name} cannot be had: {error}") from None
    return kept(folder, path, manifest)


def own_model(folder: Path, name: str) -> BenchModel:
    """What the function ``name`` of this module makes."""
    require("torch")
    folder.mkdir(parents=True)
    path, manifest = import_model(f"benchmarks.models:{name}", name, folder / "import", ImportOptions())
    return kept(folder, path, manifest)


def narrow() -> tuple[nn.Module, tuple[Any, ...]]:
    """VGG16 with a quarter of its channels, for quick runs: it captures in seconds."""
    import torch

    from edgemesh.zoo.networks import vgg16

    return vgg16(width=0.25), (torch.randn(1, 3, 224, 224),)


def transformer() -> tuple[nn.Module, tuple[Any, ...]]:
    """A vision transformer of DeiT-Tiny's size (Touvron et al. 2021, table 1): 152 KB between its blocks."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    width, heads, depth, tokens = 192, 3, 12, 197

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = (
                self.qkv(self.norm1(x)).reshape(1, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            )
            weights = torch.softmax(parts[0] @ parts[1].transpose(-2, -1) / math.sqrt(width / heads), -1)
            x = x + self.out((weights @ parts[2]).transpose(1, 2).reshape(1, tokens, width))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, width, 16, 16)
            self.first = nn.Parameter(torch.randn(1, 1, width) * 0.02)
            self.places = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
            self.blocks = nn.Sequential(*(Block() for _ in range(depth)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.first, x], 1) + self.places
            return self.head(self.norm(self.blocks(x))[:, 0])

    return Transformer().eval(), (torch.randn(1, 3, 224, 224),)


def require(runtime: str) -> None:
    """Raise NotMeasurableError where the runtime is not installed."""
    if runtime not in installed_runtimes() or (
        runtime == "torch" and importlib.util.find_spec("safetensors") is None
    ):
        raise NotMeasurableError(f"{runtime} is not installed: pip install 'edgemesh[{runtime}]'")
