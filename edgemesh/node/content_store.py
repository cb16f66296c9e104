"""Model content on disk, by digest: partial while it is fetched, whole and verified after."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edgemesh.errors import DecodeError
from edgemesh.node.content_age import RENEWED_SECONDS
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.limits import CHUNK_BYTES
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Profile
from edgemesh.runtime.file_digest import file_digest
from edgemesh.transport.daemon_threads import DAEMON_THREADS

_NAME = re.compile(r"([0-9a-f]{64})(\.part)?")
_BLOCK_BYTES = 512  # what stat(2) counts in, whatever the disk's own blocks are
_log = logging.getLogger("edgemesh")


@dataclass(frozen=True)
class KeptFile:
    """Content on disk, or what was begun of it."""

    name: str
    digest: str
    at: float
    """When it was last written, named or used."""
    size: int
    """Bytes of the disk that it takes: of what was begun there may be holes."""


class ContentStore:
    """``models/<digest>`` and ``profiles/<digest>-<threads>.json`` under one directory."""

    def __init__(self, directory: Path) -> None:
        self._models = directory / "models"
        self._profiles = directory / "profiles"
        self._verified: set[str] = set()
        """Digests of what this process wrote or hashed; a loss of power may have torn what is older."""
        self._naming = threading.Lock()
        """Content is hashed and named in a thread, and may be dropped meanwhile."""
        self._models.mkdir(parents=True, exist_ok=True)
        self._profiles.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the whole content is, or will be."""
        return self._models / digest

    def has(self, digest: str) -> bool:
        """Whether the whole content is there, and was written or verified by this process."""
        return digest in self._verified and self.path(digest).exists()

    def verify(self, digest: str) -> bool:
        """Whether the whole content is there and right (reads all of it); what is wrong becomes partial."""
        path = self.path(digest)
        # It may be dropped meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if file_digest(path) == digest:
                self._verified.add(digest)
                if time.time() - path.lstat().st_mtime > RENEWED_SECONDS:
                    self.renew([digest])
                return True
            _log.warning(
                "the content %s on disk is damaged: what is wrong of it is fetched again", digest[:20]
            )
            if path.is_symlink():
                path.unlink()  # chunks would be written to a file that is not ours
            else:
                os.replace(path, self._part(digest))
        return False

    def put(self, content: bytes, digest: str) -> None:
        """Store whole content."""
        with self._part(digest).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._part(digest), self.path(digest))
        self._verified.add(digest)
        self._sync_names()

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

    def finish(self, manifest: Manifest) -> bool | None:
        """Verify the whole and move it to its place; False, and thrown away, when it is not the content.

        None when it was dropped meanwhile: what is there now, if anything, is of a fetch with its own end.
        """
        part = self._part(manifest.digest)
        # Open to the end, so that a new file cannot have the same inode.
        with part.open("rb") as file:
            is_right = file_digest(part) == manifest.digest
            if is_right:
                os.fsync(file.fileno())  # what was hashed may be in memory only
            with self._naming:
                if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                    return None
                if is_right:
                    os.replace(part, self.path(manifest.digest))
                    self._verified.add(manifest.digest)
                else:
                    part.unlink()
        if is_right:
            self._sync_names()
        return is_right

    def read_chunk(self, digest: str, index: int, chunk_bytes: int) -> bytes | None:
        """One chunk of whole content, or None when it is not there."""
        try:
            with self.path(digest).open("rb") as file:
                file.seek(index * min(chunk_bytes, CHUNK_BYTES))
                return file.read(min(chunk_bytes, CHUNK_BYTES))
        except FileNotFoundError:
            return None

    def drop(self, digest: str) -> Callable[[], None]:
        """Delete content and what was begun of it at once; the bytes are free after the call that comes back.

        A disk that keeps them only costs their space.
        """
        with self._naming:
            self._verified.discard(digest)
            paths = (self.path(digest), self._part(digest))
            held = [descriptor for path in paths for descriptor in self._unlinked(path) or ()]
        return lambda: _close(held)

    def kept(self) -> list[KeptFile]:
        """All content that is there, whole or begun, and nothing else of the folder; raises OSError."""
        found = []
        with os.scandir(self._models) as entries:
            for entry in entries:
                name = _NAME.fullmatch(entry.name)
                if name is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # it may be dropped meanwhile
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                        size = min(status.st_size, status.st_blocks * _BLOCK_BYTES)
                        found.append(KeptFile(entry.name, name[1], status.st_mtime, size))
        return found

    def renew(self, names: Iterable[str]) -> None:
        """Say of files that they are named or used now; a disk that takes no time gives up no file either."""
        for name in names:
            with contextlib.suppress(OSError):
                os.utime(self._models / name, follow_symlinks=False)

    def let_go(self, file: KeptFile) -> Callable[[], None] | None:
        """Delete a file at once; its bytes are free after the call that comes back. None where it stays.

        To free gigabytes takes a card seconds, while a name is gone in a moment: who asks for the content
        next finds none of it, and begins a new file.
        """
        with self._naming:
            held = self._unlinked(self._models / file.name)
            if held is None:
                return None
            if file.name == file.digest:
                self._verified.discard(file.digest)
        return lambda: _close(held)

    def _unlinked(self, path: Path) -> list[int] | None:
        """What keeps the bytes of a file whose name is gone now; None where there is none, or it stays."""
        held = []
        # Where it cannot be held open, as a link, its bytes go with its name.
        with contextlib.suppress(OSError):
            held.append(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
        if self._delete(path):
            return held
        _close(held)
        return None

    def _delete(self, path: Path) -> bool:
        """Whether there was such a file and is none any more."""
        try:
            if not os.path.lexists(path):  # a read-only disk refuses to delete even what is not there
                return False
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            _log.warning("cannot delete %s from the disk: %s", path.name[:20], error.strerror)
            return False
        return True

    def profile(self, digest: str, runtime_version: str, threads: int) -> Profile | None:
        """The cached profile, if it was measured with this version and these threads."""
        try:
            profile = decode_json(Profile, self._profile_path(digest, threads).read_bytes())
        except (OSError, DecodeError):
            return None  # what is not there, damaged or unreadable is measured again
        return profile if profile.runtime_version == runtime_version else None

    def keep_profile(self, profile: Profile) -> None:
        """Cache a profile; on a disk that takes none, the next start measures it again."""
        path = self._profile_path(profile.digest, profile.threads)
        try:
            path.with_suffix(".new").write_bytes(encode_json(profile))
            os.replace(path.with_suffix(".new"), path)
        except OSError as error:
            _log.warning("cannot keep the profile of %s: %s", profile.digest[:20], error.strerror)

    def _sync_names(self) -> None:
        """Whole content is to have its name after a loss of power, too."""
        directory = os.open(self._models, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _part(self, digest: str) -> Path:
        return self._models / f"{digest}.part"

    def _profile_path(self, digest: str, threads: int) -> Path:
        return self._profiles / f"{digest}-{threads}.json"


def free_in_a_thread(give_back: Callable[[], None]) -> None:
    """Call what ``drop`` or ``let_go`` came back with, where a thread is to be had not on the caller's."""
    try:
        DAEMON_THREADS.submit(give_back)
    except RuntimeError:  # a small board has few threads to give
        give_back()


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
