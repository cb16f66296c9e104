"""Broker's memory: models and plugs are said again where the broker lost them, or brings back older models.

Manifests were published once by a person, and a broker may lose its store, or come back with what it had
written last: then devices say them again, for whoever holds the content knows what it is called; of a broker
without its store also those who were to fetch it, as its only holder may not even know its name. And what
somebody added while cut off may come after what another one added later, and take its place: then decision
nodes and gateways say it again, too. The plug that a device hangs on was named once by a person as well, and
only that device knows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import About
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Log, Publish
from edgemesh.roles.content import ContentKeeper
from edgemesh.roles.events import MessageReceived
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.plug import Plug


def newer_said_again(
    event: MessageReceived, view: MeshView, topics: Topics, held: Sequence[Manifest] = ()
) -> list[Action] | None:
    """What to say where a manifest is older than one of ``view`` or ``held``; None where it is not.

    Were it believed, all would throw the newer content away, or never fetch it; were it only passed over,
    those who come later would believe it, and nobody could plan for both. Raises DecodeError.
    """
    if not event.payload:
        return None
    came, model = decode_json(Manifest, event.payload), event.topic.names["model"]
    known = [manifest for manifest in held if manifest.name == model]
    if model in view.manifests and not view.is_earlier_model(model):
        known.append(view.manifests[model])
    newest = max(known, key=lambda manifest: manifest.revision, default=came)
    if newest.revision <= came.revision:
        return None
    text = f"an older manifest of {model} came back: the newer one is said again"
    return [Log("info", text, model), _said(topics, newest)]


def _said(topics: Topics, manifest: Manifest) -> Publish:
    topic = topics.build("model", model=manifest.name)
    return Publish(topic, encode_json(manifest), qos=1, retain=True)


class BrokerMemory:
    """Of one device, about what its ``content`` keeper holds and the ``plug`` that it hangs on."""

    def __init__(self, topics: Topics, content: ContentKeeper, plug: Plug) -> None:
        self._topics = topics
        self._content = content
        self._plug = plug
        self._was_connected = False
        self._asked = False
        """Whether it is not known yet if the broker still has what it retained."""
        self._doubted = False
        """Whether a connection ended before that was known, and none since has brought what is retained."""
        self._told: About | None = None
        """What the broker retained of us when this connection began."""

    def connected(self) -> list[Action]:
        """A new connection: ask, by our own state, whether the broker still knows us."""
        # A connection that ended before the answer came may have covered up that the broker had lost it all.
        said = self._all_said() if self._asked else []
        self._doubted = self._doubted or self._asked
        self._asked, self._was_connected = self._was_connected and not said, True
        self._told = None
        return said

    def will_came(self) -> None:
        """The Will of an earlier connection was published: nothing can be told from our own state."""
        self._asked = False

    def own_about_came(self, told: About | None) -> None:
        """What the broker retained of us came: it is what we said last, or what a killed broker still had."""
        self._told = told

    def own_state_came(self, view: MeshView, now: float, *, retained: bool) -> list[Action]:
        """Our state came back: live although an earlier one was retained, so the broker has lost it all.

        Live, it comes behind all that is retained. A model that the broker does not know of us either was
        added since it wrote its store; one that it knows of us, and not itself, was removed.
        """
        asked, self._asked = self._asked, False
        if retained:
            return []
        plug = self._plug.all_retained_came(now, forgotten=asked or self._doubted)
        self._doubted = False
        if asked:
            return [*self._all_said(), *plug]
        if self._told is None:
            return plug
        known = {(held.name, held.digest) for held in self._told.models}
        lost = [held for held in self._content.models if (held.name, held.digest) not in known]
        return [*(_said(self._topics, held) for held in lost if view.is_earlier_model(held.name)), *plug]

    def older_manifest(self, event: MessageReceived, view: MeshView) -> list[Action] | None:
        """What to say where a manifest is older than one that is known; None where it is not.

        An older one is brought back by a device that was away when it was replaced, or by a broker that was
        killed: whoever has the newer content on its disk may be away, and would not know any more what it is
        called. Raises DecodeError.
        """
        return newer_said_again(event, view, self._topics, self._content.models)

    def _all_said(self) -> list[Action]:
        return [_said(self._topics, manifest) for manifest in self._content.named]
