"""Client: the requester inside a program that uses the mesh without being a device of it."""

from __future__ import annotations

from edgemesh.errors import DecodeError
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.link import LinkReport
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, JobEnded, Publish, SetTimer, Subscribe
from edgemesh.roles.events import Connected, Disconnected, Event, MessageReceived, TimerFired
from edgemesh.roles.job_reports import JobReports
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.requester import Requester

_REPORT_SECONDS = 1.0
"""Between two reports of jobs; the first one is sent at once, as a program may end after its only job."""
_TIMER = "client-report"


class ClientRole:
    """Jobs in, ``JobEnded`` out. The caller carries out the actions in order.

    It measures no link: what a program sends is planned as if it came from the gateway.
    """

    def __init__(self, requester: str, origin: str, topics: Topics) -> None:
        self.view = MeshView()
        self.requester = Requester(requester, origin, topics, self.view)
        self._origin = origin
        self._topics = topics
        self._refusals = Refusals()
        self._reports = JobReports(origin)
        self._report_at = float("-inf")
        """When the next report may be sent."""
        self._waits = False
        """Whether the timer for it is set."""

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to submissions, replies and news of the mesh."""
        if isinstance(event, Disconnected):
            self.requester.disconnected()
            return []
        if isinstance(event, MessageReceived):
            try:
                self.view.learn(event, now)
            except DecodeError as error:
                return self._refusals.log(event.topic.kind, error, now)
        if isinstance(event, TimerFired) and event.name == _TIMER:
            self._waits = False
            return self._report(now)
        actions = self.requester.handle(event, now)
        ended = [action for action in actions if isinstance(action, JobEnded)]
        for job in ended:
            self._reports.add(job)
        if isinstance(event, Connected):
            return [*self._subscriptions(), *actions]
        return [*self._report(now), *actions] if ended else actions

    def _report(self, now: float) -> list[Action]:
        if not len(self._reports) or self._waits:
            return []
        if now < self._report_at:
            self._waits = True
            return [SetTimer(_TIMER, self._report_at)]
        self._report_at = now + _REPORT_SECONDS
        requester = self.requester.requester
        # Nothing retained goes by a client's boot id, and its own id is as new as its process.
        report = LinkReport(requester, (), (), *self._reports.take())
        return [Publish(self._topics.build("link", requester=requester), encode_json(report), expiry=10.0)]

    def _subscriptions(self) -> list[Action]:
        topics = self._topics
        filters = [
            topics.filter("reply", requester=self.requester.requester),
            topics.filter("model"),
            topics.filter("state"),
            topics.filter("about"),
            topics.filter("heartbeat"),
            topics.filter("assignment", origin=self._origin),
            topics.filter("response", verb="plan"),
        ]
        return [Subscribe(f, 1) for f in filters]
