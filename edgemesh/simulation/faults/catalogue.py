"""Catalogue: every model that a world has had, and what is right for each of them."""

from __future__ import annotations

from dataclasses import replace

from edgemesh.protocol.manifest import Manifest
from edgemesh.simulation.faults.schedules import NOWHERE, OTHER, TWIN
from edgemesh.simulation.models import made_up_model, result_of

_CUT_BYTES = (4800, 6400, 1600, 400, 256)
_OTHER_CUT_BYTES = (6000, *(range(4000, 1800, -200)), 128)


class Catalogue:
    """Models by name; a name may have had several contents, and a content several names."""

    def __init__(self) -> None:
        self.face, self.content = self._version("")
        self._all: dict[tuple[str, str], Manifest] = {}
        """By name and digest."""
        self._versions = 0
        self.add(self.face)

    def add(self, manifest: Manifest) -> Manifest:
        """A manifest is published."""
        self._all[manifest.name, manifest.digest] = manifest
        return manifest

    def next_face(self) -> tuple[Manifest, bytes]:
        """Other content for the same name."""
        self._versions += 1
        face, self.content = self._version(str(self._versions))
        self.face = replace(face, revision=self._versions)
        return self.add(self.face), self.content

    def nowhere(self) -> tuple[Manifest, bytes]:
        """A model that no device can run."""
        manifest, content = made_up_model(NOWHERE, cut_bytes=_CUT_BYTES, content_bytes=1000, kind="torch")
        return self.add(manifest), content

    def other(self) -> tuple[Manifest, bytes]:
        """A model of other content that takes three times as long."""
        manifest, content = made_up_model(OTHER, cut_bytes=_OTHER_CUT_BYTES, content_bytes=60_000)
        return self.add(manifest), content

    def twin(self, manifest: Manifest) -> Manifest:
        """A second name for the same content."""
        return self.add(replace(manifest, name=TWIN))

    @property
    def replaced(self) -> bool:
        """Whether a name has had other content."""
        return self._versions > 0

    def right(self, model: str, digest: str, text: str) -> bytes | None:
        """The output section of the input ``text``; None where no such model ever was."""
        manifest = self._all.get((model, digest))
        return result_of(manifest, text) if manifest is not None else None

    @staticmethod
    def _version(version: str) -> tuple[Manifest, bytes]:
        return made_up_model(cut_bytes=_CUT_BYTES, content_bytes=40_000, chunk_bytes=16_000, version=version)
