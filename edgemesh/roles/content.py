"""Content of models on a device: fetches what is missing in verified chunks, serves what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from edgemesh.errors import DecodeError, PeerError
from edgemesh.protocol.content import ChunkRequest, decode_chunk
from edgemesh.protocol.ids import is_digest
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import (
    Action,
    DropContent,
    FindContent,
    Log,
    Publish,
    SendChunk,
    SetTimer,
    StoreChunk,
    Subscribe,
    Unsubscribe,
)
from edgemesh.roles.events import (
    Connected,
    ContentDamaged,
    ContentFound,
    ContentStored,
    ContentUnwritable,
    Event,
    MessageReceived,
    TimerFired,
)
from edgemesh.roles.refusals import Refusals

WINDOW = 4
"""Chunks asked for at once: hides a round trip, and holds up an activation by 2 MB at most."""
_PATIENCE = 5.0
_LONGEST_PATIENCE = 60.0
_DISK_SECONDS = 60.0
"""Until a disk that took nothing is tried again: somebody may have made room."""
_DAMAGED = 3
"""Fetches that may turn out damaged although each chunk had its digest: then the manifest is wrong."""
_TIMER = "content"


@dataclass
class _Fetch:
    manifest: Manifest
    missing: list[int] = field(default_factory=list)
    asked: dict[int, float] = field(default_factory=dict)
    """Chunk index to the time when it was asked for last."""
    first_asked: dict[int, float] = field(default_factory=dict)
    """The same for the first time: which of several requests an answer is to, nobody can tell."""
    patience: float = _PATIENCE
    """Seconds until a chunk is asked for again."""
    window: int = 1
    """Grows with every chunk that comes in time: on a slow link four at once would all seem lost."""
    looked: bool = False
    """Whether it is known what is on disk; nothing is asked for before."""
    looks_at: float | None = None
    """When to look again, after the disk took nothing."""
    said: str = ""
    """What the log was told of the disk."""
    damaged: int = 0


class ContentKeeper:
    """Holds what ``wanted(manifest)`` says it should; tells by ``held`` what is there."""

    def __init__(self, requester: str, topics: Topics, wanted: Callable[[Manifest], bool]) -> None:
        self.held: dict[str, Manifest] = {}
        """By digest, with a manifest of it."""
        self._named: dict[str, Manifest] = {}
        """By name, of content that is here or on its way: one file may have several names and treatments."""
        self._requester = requester
        self._topics = topics
        self._wanted = wanted
        self._fetches: dict[str, _Fetch] = {}
        self._outdated: dict[str, str] = {}
        """Digest of content without a name that stays until what took its name is here, and the digest of
        that: a broker that was killed may take the change back."""
        self._hopeless: dict[str, int] = {}
        """Digest of what came damaged too often, and the revision of the manifest that it was fetched by."""
        self._connected = False
        self._refusals = Refusals()

    @property
    def models(self) -> list[Manifest]:
        """Every name of what is held, each with its own manifest."""
        return [manifest for manifest in self._named.values() if manifest.digest in self.held]

    @property
    def named(self) -> list[Manifest]:
        """Every name of what is held or on its way."""
        return list(self._named.values())

    def progress(self) -> dict[str, float]:
        """Fraction on disk of what is being fetched, by digest."""
        return {
            digest: 1.0 - (len(f.missing) + len(f.asked)) / len(f.manifest.chunks)
            for digest, f in self._fetches.items()
            if f.looked
        }

    def manifest_of(self, digest: str) -> Manifest | None:
        """Manifest of content that is here or on its way."""
        fetch = self._fetches.get(digest)
        return self._newest(fetch.manifest) if fetch is not None else self.held.get(digest)

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to manifests, chunks, requests for chunks, and what the disk says."""
        if isinstance(event, MessageReceived):
            return self._message(event, now)
        if isinstance(event, ContentFound):
            return self._found(event, now)
        if isinstance(event, ContentStored):
            return self._stored(event.digest)
        if isinstance(event, ContentDamaged):
            return self._damaged(event.digest, now)
        if isinstance(event, ContentUnwritable):
            return self._unwritable(event, now)
        if isinstance(event, TimerFired) and event.name == _TIMER:
            return self._again(now)
        if isinstance(event, Connected):
            self._connected = True
            actions: list[Action] = [Subscribe(self._topics.filter("chunk", requester=self._requester), 0)]
            actions += [self._serve(digest) for digest in self.held]
            for fetch in self._fetches.values():
                actions += self._ask(fetch, now)
            return actions
        return []

    def disconnected(self) -> None:
        """Nothing can be asked for until the broker is back; what is on disk stays."""
        self._connected = False
        for fetch in self._fetches.values():
            fetch.missing = sorted({*fetch.missing, *fetch.asked})
            fetch.asked.clear()

    def reconsider(self, manifest: Manifest) -> list[Action]:
        """Look for the content of a manifest, if it should be here and is not."""
        digest = manifest.digest
        self.forget_name(manifest.name)
        self._outdated.pop(digest, None)
        held = self.held.get(digest)
        if held is not None and held.boundaries == manifest.boundaries:
            self._named[manifest.name] = self.held[digest] = manifest
            return []
        if manifest.revision <= self._hopeless.get(digest, -1) or not self._wanted(manifest):
            return []
        # Another edgemesh may cut the same content otherwise: then it is not held until it is open anew.
        self.held.pop(digest, None)
        self._named[manifest.name] = manifest
        fetch = self._fetches.get(digest)
        if fetch is not None and fetch.manifest.chunks == manifest.chunks:
            if fetch.manifest.name == manifest.name:
                fetch.manifest = manifest
            return []
        # A fetch in other chunks comes to no end: whoever holds the content serves them by the new manifest.
        self._fetches[digest] = _Fetch(manifest)
        return [FindContent(manifest)]

    def forget_name(self, name: str) -> None:
        """A model was removed, or its name stands for other content now; the content may have other names."""
        gone = self._named.pop(name, None)
        if gone is None or self.held.get(gone.digest, gone).name != name:
            return
        for other in self._named.values():
            if other.digest == gone.digest and gone.digest in self.held:
                self.held[gone.digest] = other

    def lost_name(self, digest: str, manifest: Manifest | None) -> list[Action]:
        """Content lost its last name, to ``manifest`` if there is one: forget it when that one's is here."""
        if manifest is None:
            return self.drop(digest)
        after = manifest.digest
        self._outdated.pop(after, None)  # it has a name again
        if after not in self.held and self._wanted(manifest):
            if digest in self.held:
                self._outdated[digest] = after
                return []
            for before, awaited in self._outdated.items():
                if awaited == digest:
                    self._outdated[before] = after
        return self.drop(digest)

    def drop(self, digest: str) -> list[Action]:
        """Forget the content of a model that was removed from the mesh."""
        return [*self._drop(digest), *self._drop_outdated(digest)]

    def _drop_outdated(self, after: str) -> list[Action]:
        gone = [before for before, awaited in self._outdated.items() if awaited == after]
        return [action for digest in gone for action in self._drop(digest)]

    def _drop(self, digest: str) -> list[Action]:
        self._outdated.pop(digest, None)
        self._hopeless.pop(digest, None)
        fetch, held = self._fetches.pop(digest, None), self.held.pop(digest, None)
        if fetch is None and held is None:
            return []
        # Still subscribed, the broker would go on dealing requests to us that we cannot serve.
        silent = [Unsubscribe(self._serve(digest).filter)] if held is not None and self._connected else []
        return [*silent, DropContent(digest)]

    # --- fetching ----------------------------------------------------------------------------------------

    def _found(self, event: ContentFound, now: float) -> list[Action]:
        fetch = self._fetches.get(event.digest)
        if fetch is None:
            return []
        fetch.looked, fetch.looks_at = True, None
        fetch.asked.clear()
        fetch.first_asked.clear()
        fetch.missing = [i for i in range(len(fetch.manifest.chunks)) if i not in event.chunks]
        log = Log(
            "info",
            f"fetching {fetch.manifest.name}: {len(fetch.missing)} of {len(fetch.manifest.chunks)} chunks",
            event.digest,
        )
        return [log, *self._ask(fetch, now)]

    def _ask(self, fetch: _Fetch, now: float) -> list[Action]:
        actions: list[Action] = []
        topic = self._topics.build("chunk-request", digest=fetch.manifest.digest)
        while self._connected and fetch.looked and fetch.missing and len(fetch.asked) < fetch.window:
            index = fetch.missing.pop(0)
            fetch.asked[index] = now
            fetch.first_asked.setdefault(index, now)
            request = ChunkRequest(self._requester, index)
            actions.append(Publish(topic, encode_json(request), expiry=10.0))
        return [*actions, *self._timer(now)]

    def _timer(self, now: float) -> list[Action]:
        due = [at + fetch.patience for fetch in self._fetches.values() for at in fetch.asked.values()]
        due += [fetch.looks_at for fetch in self._fetches.values() if fetch.looks_at is not None]
        return [SetTimer(_TIMER, max(now, min(due)))] if due else []

    def _again(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for fetch in self._fetches.values():
            if fetch.looks_at is not None and now >= fetch.looks_at:
                fetch.looks_at = None
                actions.append(FindContent(fetch.manifest))
            late = [index for index, at in fetch.asked.items() if now >= at + fetch.patience]
            if late:
                # Nobody holds it yet, or a holder died: ask again, ever less often.
                fetch.patience = min(_LONGEST_PATIENCE, fetch.patience * 2.0)
                fetch.window = 1
                for index in late:
                    del fetch.asked[index]
                fetch.missing = sorted({*fetch.missing, *late})
                actions += self._ask(fetch, now)
        return [*actions, *self._timer(now)]

    def holder_appeared(self, digest: str, now: float) -> list[Action]:
        """Someone says it holds the content: ask at once instead of when patience ends."""
        fetch = self._fetches.get(digest)
        if fetch is None or fetch.patience == _PATIENCE:
            return []
        fetch.patience = _PATIENCE
        fetch.missing = sorted({*fetch.missing, *fetch.asked})
        fetch.asked.clear()
        return self._ask(fetch, now)

    def _chunk(self, event: MessageReceived, now: float) -> list[Action]:
        header, data = decode_chunk(event.payload)
        fetch = self._fetches.get(header.digest)
        if fetch is None or not (header.index in fetch.asked or header.index in fetch.missing):
            return []
        if header.digest != event.topic.names["digest"]:
            raise DecodeError("chunk of another digest than its topic's")
        if hashlib.sha256(data).hexdigest() != fetch.manifest.chunks[header.index]:
            raise DecodeError(f"chunk {header.index} of {fetch.manifest.name} does not have its digest")
        if fetch.asked.pop(header.index, None) is None:
            fetch.missing.remove(header.index)  # given up too early: a slow link takes its time
        else:
            fetch.window = min(WINDOW, fetch.window + 1)
        took = now - fetch.first_asked.pop(header.index, now)
        fetch.patience = min(_LONGEST_PATIENCE, max(_PATIENCE, 2.0 * took))
        last = not fetch.missing and not fetch.asked
        return [StoreChunk(fetch.manifest, header.index, bytes(data), last), *self._ask(fetch, now)]

    def _stored(self, digest: str) -> list[Action]:
        fetch = self._fetches.pop(digest, None)
        if fetch is None:
            return []
        manifest = self.held[digest] = self._newest(fetch.manifest)
        actions: list[Action] = [Log("info", f"holds {manifest.name}", digest)]
        if self._connected:
            actions.append(self._serve(digest))
        return [*actions, *self._drop_outdated(digest)]

    def _newest(self, manifest: Manifest) -> Manifest:
        """What the content of a manifest is known by now: it may have been added again, cut otherwise, or
        have lost that name."""
        names = [manifest.name, *self._named]
        known = (self._named[name] for name in names if name in self._named)
        return next((other for other in known if other.digest == manifest.digest), manifest)

    def _damaged(self, digest: str, now: float) -> list[Action]:
        fetch = self._fetches.get(digest)
        if fetch is None:
            return []
        fetch.damaged += 1
        fetch.looked, fetch.looks_at = True, None  # thrown away: there is nothing on disk
        fetch.missing = list(range(len(fetch.manifest.chunks)))
        fetch.asked.clear()
        fetch.first_asked.clear()
        if fetch.damaged >= _DAMAGED:
            del self._fetches[digest]
            self._hopeless[digest] = fetch.manifest.revision
            text = f"{fetch.manifest.name} does not have its digest although its chunks do: add it again"
            return [Log("error", text, digest)]
        log = Log("warning", f"{fetch.manifest.name} arrived damaged and is fetched again", digest)
        return [log, *self._ask(fetch, now)]

    def _unwritable(self, event: ContentUnwritable, now: float) -> list[Action]:
        """Ask for nothing more until the disk has been looked at again; what is on it stays."""
        fetch = self._fetches.get(event.digest)
        if fetch is None or fetch.looks_at is not None:
            return []
        fetch.looked, fetch.looks_at, fetch.window = False, now + _DISK_SECONDS, 1
        fetch.missing.clear()
        fetch.asked.clear()
        fetch.first_asked.clear()
        if event.text == fetch.said:
            return self._timer(now)
        fetch.said = event.text
        text = f"cannot keep {fetch.manifest.name}: {event.text}; tried again every {_DISK_SECONDS:.0f} s"
        return [Log("error", text, event.digest), *self._timer(now)]

    # --- serving -----------------------------------------------------------------------------------------

    def _serve(self, digest: str) -> Subscribe:
        # A shared subscription: of all that hold the content, the broker picks one for each request. Its
        # group is named after the content, because rumqttd knows groups by their name alone (measured: the
        # requests of a second filter in the same group go nowhere).
        topic = self._topics.filter("chunk-request", digest=digest)
        return Subscribe(f"$share/holders-{digest[:16]}/{topic}", 0)

    def _message(self, event: MessageReceived, now: float) -> list[Action]:
        kind = event.topic.kind
        if kind not in ("chunk", "chunk-request"):
            return []
        try:
            if kind == "chunk":
                return self._chunk(event, now)
            return self._serve_chunk(event)
        except PeerError as error:
            return self._refusals.log(kind, error, now)

    def _serve_chunk(self, event: MessageReceived) -> list[Action]:
        request = decode_json(ChunkRequest, event.payload)
        digest = event.topic.names["digest"]
        assert is_digest(digest)
        manifest = self.held.get(digest)
        if manifest is None or request.index >= len(manifest.chunks):
            return []
        topic = self._topics.build("chunk", digest=digest, requester=request.requester)
        return [SendChunk(topic, digest, request.index, manifest.chunk_bytes)]
