"""Catalogue of ready models whose content is a pinned file elsewhere: one TOML file in this folder each."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from edgemesh.device.toml_text import parse_toml
from edgemesh.errors import UnknownModelError
from edgemesh.protocol.fields import Digest, Id, from_plain
from edgemesh.protocol.manifest import ClassesOutput, DetectionsOutput, ImageInput

_SUFFIX = ".toml"


@dataclass(frozen=True)
class WheelMember:
    """One file inside one wheel, pinned by the wheel's hash."""

    name: str
    """Of the distribution, as pip takes it."""
    version: str
    sha256: Digest
    """Of the whole wheel file."""
    member: str
    """Path inside the wheel."""


@dataclass(frozen=True)
class ZooEntry:
    """A model of the catalogue: where its content is, and how its inputs and outputs are treated."""

    name: Id
    summary: str
    wheel: WheelMember
    image: ImageInput | None = None
    classes: ClassesOutput | None = None
    detections: DetectionsOutput | None = None


def zoo_names() -> list[str]:
    """Names of all entries, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX))


def zoo_entry(name: str) -> ZooEntry:
    """The entry of that name; raises UnknownModelError naming those there are."""
    names = zoo_names()
    if name not in names:
        raise UnknownModelError(f"the zoo has no pinned model {name[:80]!r}; it has: {', '.join(names)}")
    text = resources.files(__package__).joinpath(name + _SUFFIX).read_text("utf-8")
    return from_plain(ZooEntry, parse_toml(text))
