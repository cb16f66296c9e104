"""The policies of models, as they are retained."""

from __future__ import annotations

from typing import Final

from edgemesh.errors import DecodeError
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.requests import Policy
from edgemesh.roles.events import MessageReceived

_POLICIES: Final = 1024
_NO_POLICY: Final = Policy()


class Policies:
    """By model; the default one where none was set."""

    def __init__(self) -> None:
        self._known: dict[str, Policy] = {}

    def clear(self) -> None:
        """Begin with what the broker retains."""
        self._known.clear()

    def of(self, model: str) -> Policy:
        """That of ``model``."""
        return self._known.get(model, _NO_POLICY)

    def learn(self, event: MessageReceived) -> bool:
        """Take in one, or that it is no more; False where that changes nothing. Raises DecodeError."""
        model = event.topic.names["model"]
        try:
            policy = decode_json(Policy, event.payload) if event.payload else None
        except DecodeError as error:
            raise DecodeError(f"the policy of {model} is not kept to, the one before is: {error}") from None
        if policy == self._known.get(model):
            return False
        if policy is None:
            del self._known[model]
        elif model in self._known or len(self._known) < _POLICIES:
            self._known[model] = policy
        else:
            raise DecodeError(f"more than {_POLICIES} policies; that of {model} is not taken in")
        return True

    def told(self, model: str) -> Policy | None:
        """What was set for ``model``, if anything."""
        return self._known.get(model)
