"""Plug: the smart plug that a device hangs on, as its operator set it and as it reports."""

from __future__ import annotations

from edgemesh.errors import DecodeError
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.meter import MeterSetting, PlugKind, PlugState, PlugStatus
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Log, Publish, Subscribe, Unsubscribe
from edgemesh.roles.events import Connected, Event, ForeignMessageReceived, MessageReceived
from edgemesh.roles.plug_payloads import PLUG_WATTS, PlugReport, plug_kind, plug_report, plug_topics
from edgemesh.roles.refusals import Refusals

STALE_SECONDS = 900.0
"""A plug that reports on a change only may be silent for long: three periods of Tasmota's default."""
_PROBLEM_CHARS = 1000
"""Far within what readers of ``Resources`` take."""
_ASK_SECONDS = 60.0
"""Without a report for this long the plug is asked, where its kind can be."""
_ABSENT_SECONDS = 10.0
"""After all that is retained should have come: without a setting it was cleared while we were away."""


class Plug:
    """Listens to one plug; without a setting it does nothing."""

    def __init__(self, device: str, topics: Topics, most_watts: float = PLUG_WATTS) -> None:
        """``most_watts``: a plug that says more measures something else, too."""
        self.setting: MeterSetting | None = None
        self.reports: list[PlugReport] = []
        """Fresh ones, not yet taken. A retained one is none: nobody knows how old it is."""
        self._setting_topic = topics.build("meter", device=device)
        self._most_watts = most_watts
        self._kind: PlugKind = "auto"
        self._refusals = Refusals()
        self._unconfirmed = False
        """Whether this connection has brought no word of the setting yet."""
        self._absent_since: float | None = None
        """When all else that the broker retains had come, and the setting had not."""
        self._forget()

    def _forget(self) -> None:
        self.reports = []
        self._watts: float | None = None
        self._energy: float | None = None
        self._heard_at: float | None = None
        self._asked_at: float | None = None
        self._online = True
        self._problem = ""

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to the setting, to reports, and to a new connection."""
        if isinstance(event, Connected):
            self._unconfirmed, self._absent_since = True, None
            return [Subscribe(self._setting_topic, 1)]
        if isinstance(event, MessageReceived) and event.topic.kind == "meter":
            return self._set(event, now)
        if isinstance(event, ForeignMessageReceived) and self.setting is not None:
            return self._reported(event, now)
        return []

    def all_retained_came(self, now: float, *, forgotten: bool) -> list[Action]:
        """What a new connection brings has come; ``forgotten``: the broker may have lost what it retained.

        Then the setting is said again where the broker has none: nobody else knows it. One that came was made
        since, and is the one.
        """
        if not self._unconfirmed or self.setting is None:
            return []
        if not forgotten:
            self._absent_since = now if self._absent_since is None else self._absent_since
            return []
        self._confirmed()
        said = Publish(self._setting_topic, encode_json(self.setting), qos=1, retain=True)
        return [said, *self._changed(self.setting, (), now)]

    def looked(self, now: float) -> list[Action]:
        """At every look at the device: ask a plug that is silent, and drop a setting that is gone."""
        since = self._absent_since
        if since is not None and now - since >= _ABSENT_SECONDS:
            self._confirmed()
            return self._changed(None, (), now)
        return self._ask(now)

    def status(self, now: float) -> PlugStatus | None:
        """What is known of it; None without a setting."""
        if self.setting is None:
            return None
        age = None if self._heard_at is None else max(now - self._heard_at, 0.0)
        state: PlugState = "waiting"
        if not self._online:
            state = "offline"
        elif age is not None:
            state = "reporting" if age <= STALE_SECONDS else "silent"
        return PlugStatus(
            self.setting.topic, self._kind, state, self._watts, self._energy, age, self._problem or None
        )

    def watts(self, now: float) -> float | None:
        """Of its last report, while that counts: a plug that reports on a change stays at its last value."""
        status = self.status(now)
        return status.watts if status is not None and status.state == "reporting" else None

    def taken(self) -> list[PlugReport]:
        """The fresh reports since the last call."""
        reports, self.reports = self.reports, []
        return reports

    # --- setting -----------------------------------------------------------------------------------------

    def _set(self, event: MessageReceived, now: float) -> list[Action]:
        # The first one of a connection: the broker knows no subscription of ours.
        subscribed = () if self._unconfirmed else self._listened()
        self._confirmed()
        try:
            setting = decode_json(MeterSetting, event.payload) if event.payload else None
        except DecodeError as error:
            return self._refusals.log("meter", error, now)
        return self._changed(setting, subscribed, now)

    def _confirmed(self) -> None:
        self._unconfirmed, self._absent_since = False, None

    def _changed(self, setting: MeterSetting | None, subscribed: tuple[str, ...], now: float) -> list[Action]:
        same = setting == self.setting
        if not same:
            self.setting = setting
            self._forget()
            self._kind = "auto" if setting is None else plug_kind(setting.kind, setting.topic)
        listened = self._listened()
        actions: list[Action] = [Unsubscribe(topic) for topic in subscribed if topic not in listened]
        actions += [Subscribe(topic, 0) for topic in listened if topic not in subscribed]
        if same:
            return actions
        what = "hangs on no plug" if setting is None else f"hangs on the plug {setting.topic} ({self._kind})"
        return [*actions, Log("info", what, "power"), *self._ask(now)]

    def _listened(self) -> tuple[str, ...]:
        return () if self.setting is None else plug_topics(self._kind, self.setting.topic).listen

    def _ask(self, now: float) -> list[Action]:
        if self.setting is None:
            return []
        ask = plug_topics(self._kind, self.setting.topic).ask
        last = max((at for at in (self._heard_at, self._asked_at) if at is not None), default=None)
        if ask is None or (last is not None and now - last < _ASK_SECONDS):
            return []
        self._asked_at = now
        return [Publish(*ask)]

    # --- reports -----------------------------------------------------------------------------------------

    def _reported(self, event: ForeignMessageReceived, now: float) -> list[Action]:
        assert self.setting is not None
        if event.topic not in self._listened():
            return []
        try:
            report = plug_report(self._kind, self.setting.topic, event.topic, event.payload)
            if report.watts is not None and report.watts > self._most_watts:
                raise DecodeError(
                    f"{report.watts:g} W, more than this device could take ({self._most_watts:.0f} W): "
                    "something else hangs on that plug, or it is wrong"
                )
        except DecodeError as error:
            self._problem = str(error)[:_PROBLEM_CHARS]
            return self._refusals.log(f"the plug {self.setting.topic}", error, now)
        if report.online is not None:
            self._online = report.online
        if report.watts is None and report.joules is None:
            return []
        self._problem = ""
        if event.retained:
            if self._heard_at is None:
                self._watts, self._energy = report.watts, report.joules
            return []
        self._online = True
        self._heard_at = now
        self._watts = self._watts if report.watts is None else report.watts
        self._energy = self._energy if report.joules is None else report.joules
        self.reports.append(report)
        return []
