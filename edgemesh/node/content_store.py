"""Model content on disk, by digest: partial while it is fetched, whole and verified after."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from edgemesh.errors import DecodeError
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.limits import CHUNK_BYTES
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Profile

_log = logging.getLogger("edgemesh")


class ContentStore:
    """``models/<digest>`` and ``profiles/<digest>-<threads>.json`` under one directory."""

    def __init__(self, directory: Path) -> None:
        self._models = directory / "models"
        self._profiles = directory / "profiles"
        self._models.mkdir(parents=True, exist_ok=True)
        self._profiles.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the whole content is, or will be."""
        return self._models / digest

    def has(self, digest: str) -> bool:
        """Whether the whole content is there; it was verified when it came."""
        return self.path(digest).exists()

    def put(self, content: bytes, digest: str) -> None:
        """Store whole content."""
        part = self._part(digest)
        part.write_bytes(content)
        os.replace(part, self.path(digest))

    def partial_chunks(self, manifest: Manifest) -> frozenset[int]:
        """Chunks of an interrupted fetch that have their digest (one read of what is there)."""
        part = self._part(manifest.digest)
        if not part.exists():
            return frozenset()
        found = set()
        with part.open("rb") as file:
            for index, digest in enumerate(manifest.chunks):
                chunk = file.read(manifest.chunk_bytes)
                if hashlib.sha256(chunk).hexdigest() == digest:
                    found.add(index)
        return frozenset(found)

    def write_chunk(self, manifest: Manifest, index: int, data: bytes) -> None:
        """Write one verified chunk at its place."""
        part = self._part(manifest.digest)
        part.touch()
        with part.open("r+b") as file:
            file.seek(index * manifest.chunk_bytes)
            file.write(data)

    def finish(self, manifest: Manifest) -> bool:
        """Verify the whole and move it to its place; False, and thrown away, when it is not the content."""
        part = self._part(manifest.digest)
        digest = hashlib.sha256()
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != manifest.digest:
            part.unlink()
            return False
        os.replace(part, self.path(manifest.digest))
        return True

    def read_chunk(self, digest: str, index: int, chunk_bytes: int) -> bytes | None:
        """One chunk of whole content, or None when it is not there."""
        try:
            with self.path(digest).open("rb") as file:
                file.seek(index * min(chunk_bytes, CHUNK_BYTES))
                return file.read(min(chunk_bytes, CHUNK_BYTES))
        except FileNotFoundError:
            return None

    def drop(self, digest: str) -> None:
        """Delete content and what was begun of it."""
        self.path(digest).unlink(missing_ok=True)
        self._part(digest).unlink(missing_ok=True)

    def profile(self, digest: str, runtime_version: str, threads: int) -> Profile | None:
        """The cached profile, if it was measured with this version and these threads."""
        try:
            profile = decode_json(Profile, self._profile_path(digest, threads).read_bytes())
        except (FileNotFoundError, DecodeError):
            return None  # a damaged cache is measured again
        return profile if profile.runtime_version == runtime_version else None

    def keep_profile(self, profile: Profile) -> None:
        """Cache a profile; on a disk that takes none, the next start measures it again."""
        path = self._profile_path(profile.digest, profile.threads)
        try:
            path.with_suffix(".new").write_bytes(encode_json(profile))
            os.replace(path.with_suffix(".new"), path)
        except OSError as error:
            _log.warning("cannot keep the profile of %s: %s", profile.digest[:20], error.strerror)

    def _part(self, digest: str) -> Path:
        return self._models / f"{digest}.part"

    def _profile_path(self, digest: str, threads: int) -> Path:
        return self._profiles / f"{digest}-{threads}.json"
