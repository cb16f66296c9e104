"""Submissions: one result for each that the broker took, for as long as it keeps its store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.result import ResultMessage
from edgemesh.simulation.broker import Message
from edgemesh.simulation.connection import ModelledConnection
from edgemesh.simulation.faults.people import ANSWERS
from edgemesh.simulation.faults.schedules import Deed
from edgemesh.simulation.faults.words import Words
from edgemesh.simulation.faults.world import World

GATEWAY = "home-gateway-0"
_UNACKNOWLEDGED_SECONDS = 5.0
"""After its answer, until a submission is surely acknowledged where nothing is in its way."""
_LATE_SECONDS = 2.0
"""Of an answer: MQTT has whole seconds for an expiry."""
_LOSS_SECONDS = 20.0
"""After the broker lost its store, until a gateway surely has subscribed again."""


class Submissions:
    """What apps published and what came of it."""

    def __init__(
        self, world: World, words: Words, broken: Callable[[str, str, str], None], *, prompt: bool
    ) -> None:
        """``prompt`` where nothing holds messages up on their way, as photographs do those behind them."""
        self.results: Counter[str] = Counter()
        """Of each, without those that came again under the same job id."""
        self.codes: dict[str, str | None] = {}
        """What each ended with first; None for a result."""
        self.told_again = 0
        """Results that came again, under the same job id: their gateway's connection ended between record and
        acknowledgement (``roles/answered.py``)."""
        self._told: dict[tuple[str, str], ResultMessage] = {}
        """Submissions and the job ids of their results, and what they said first."""
        self._elsewhere: dict[str, ResultMessage] = {}
        """By job: what everybody read of a result that its app wanted on a topic of its own."""
        self._answered_at: dict[str, float] = {}
        self._world = world
        self._words = words
        self._broken = broken
        self._accepted: Counter[str] = Counter()
        """Times that the broker took it: an app that never saw its PUBACK publishes again."""
        self._accepted_at: dict[str, float] = {}
        self._deeds: dict[str, Deed] = {}
        self._expires_at: dict[str, float] = {}
        """By when each wants its answer."""
        self._prompt = prompt
        self._excused: set[str] = set()
        self._unheard: set[str] = set()
        """Taken last when the broker had forgotten the gateway, and none had subscribed since."""

    def submitted(self, deed: Deed) -> None:
        """An app wants a result within ``deed.seconds``."""
        self._deeds[deed.name] = deed

    def accepted(self, message: Message) -> None:
        """The broker has it."""
        name = _name(message)
        clock = self._world.mesh.clock
        self._accepted[name] += 1
        self._accepted_at.setdefault(name, clock.now)
        assert message.expires_at is not None
        broker = self._world.mesh.broker
        forgotten = bool(broker.wiped_at) and not broker.listens(GATEWAY, message.topic)
        (self._unheard.add if forgotten else self._unheard.discard)(name)
        self._expires_at[name] = max(message.expires_at, self._expires_at.get(name, 0.0))
        clock.call_at(message.expires_at - 1e-6, self._expires, name)

    def answered(self, connection: ModelledConnection, message: Message, result: ResultMessage) -> None:
        """A gateway published a result."""
        if message.correlation is None:
            self._elsewhere[result.job] = result
        else:
            self._answered(connection, _name(message), result)

    def answered_there(self, connection: ModelledConnection, message: Message) -> None:
        """A gateway published a result on the topic that an app had asked for."""
        name, result = _name(message), decode_json(ResultMessage, message.payload)
        if message.topic != ANSWERS + name or self._elsewhere.get(result.job) != result:
            self._broken("answers come where they are wanted", f"{message.topic} has another answer", name)
        self._answered(connection, name, result)

    def _answered(self, connection: ModelledConnection, name: str, result: ResultMessage) -> None:
        first = self._told.setdefault((name, result.job), result)
        again = first is not result
        self.told_again += again
        self.results[name] += not again
        self.codes.setdefault(name, result.code)
        self._answered_at.setdefault(name, self._world.mesh.clock.now)
        if result.code is None and not self._is_right(name, result):
            self._broken("right output", f"{name} has a wrong result", name)
        if again and not _agree(first, result):
            text = f"{name} was told {first.code or 'a result'}, then {result.code or 'a result'}"
            self._broken("what is told again is the same", text, name)
        self._words.ended(self._deeds[name], result.code, result.attempts)
        # Nobody could answer before this gateway was there.
        late = self._world.mesh.clock.now - max(self._expires_at[name], connection.changed_at)
        if self._prompt and not again and late > _LATE_SECONDS:
            text = f"{name} was answered {late:.1f} s after its deadline ({result.code or 'a result'})"
            self._broken("answered by its deadline", text, name)
        if self.results[name] > self._accepted[name] and not self._memory_was_lost(name):
            text = f"{name} was taken {self._accepted[name]} times and has {self.results[name]} results"
            self._broken("one result per submission", text, name)

    def _is_right(self, name: str, result: ResultMessage) -> bool:
        right = self._world.catalogue.right(result.model, result.outputs["content"], name)
        return right is not None and result.outputs["value"] == right[:32].hex()

    def _memory_was_lost(self, name: str) -> bool:
        since = self._accepted_at.get(name, 0.0) - _LOSS_SECONDS
        return any(at >= since for at in self._world.mesh.broker.wiped_at)

    def _expires(self, name: str) -> None:
        """What waits for a gateway until its deadline is dropped by the broker."""
        broker = self._world.mesh.broker
        if any(_name(message) == name for message in broker.waiting(GATEWAY) if message.correlation):
            under_way = broker.under_way(GATEWAY)
            if under_way is None or any(self._is_open(message) for message in under_way):
                self._excused.add(name)

    def _is_open(self, message: Message) -> bool:
        """Whether a gateway has reason not to have acknowledged it."""
        name = _name(message)
        if self.results[name] < self._accepted[name]:
            return True  # of an app that published it twice, one may have been answered
        return self._world.mesh.clock.now - self._answered_at[name] < _UNACKNOWLEDGED_SECONDS

    def dropped(self, client_id: str, message: Message) -> None:
        """The broker drops what is too much for an absent or slow gateway, and tells nobody."""
        if client_id == GATEWAY and message.correlation:
            self._excused.add(_name(message))

    def check_end(self) -> None:
        """Everything has been answered that the broker neither lost nor dropped."""
        for name in self._accepted:
            excused = name in self._excused or name in self._unheard or self._memory_was_lost(name)
            if not self.results[name] and not excused:
                self._broken("one result per submission", f"{name} never had a result", name)


def _agree(one: ResultMessage, other: ResultMessage) -> bool:
    """Whether two results of one job say the same."""
    return (one.code, one.outputs) == (other.code, other.outputs)


def _name(message: Message) -> str:
    return (message.correlation or b"").decode()
