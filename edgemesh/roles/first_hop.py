"""First hop: the activation that a requester sends to the first device of a job's route."""

from __future__ import annotations

from edgemesh.protocol.activation import Activation, encode_activation
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Publish
from edgemesh.roles.addresses import Addresses
from edgemesh.roles.events import JobSubmitted
from edgemesh.roles.routes import ChosenRoute

_RECEIPT_SECONDS = 0.2
"""At most one transfer receipt per peer in this time: enough to follow a link, too few to load it."""
_PEERS = 4096


def attempt_of(token: str) -> tuple[str, int] | None:
    """Job and attempt of a message that has the ``token``; None for those that are of no job."""
    kind, _, rest = token.partition(":")
    if kind not in ("work", "sent"):
        return None
    job, attempt, _ = rest.rsplit(":", 2)
    return job, int(attempt)


class FirstHop:
    """Stamps routes on jobs, and asks for transfer receipts at a bounded rate."""

    def __init__(self, requester: str, topics: Topics) -> None:
        self._requester = requester
        self._addresses = Addresses(topics)
        self._receipts: dict[str, float] = {}

    def message(
        self, job: JobSubmitted, attempt: int, choice: ChosenRoute, left: float, now: float
    ) -> Publish:
        """Attempt number ``attempt`` of a job that has ``left`` seconds."""
        first = choice.route[0].device
        receipt = self._wants_receipt(first, now)
        header = Activation(
            job.job,
            self._requester,
            job.model,
            choice.digest,
            0,
            choice.route,
            attempt,
            left,
            self._requester,
            receipt,
            job.stream,
        )
        return Publish(
            self._addresses.of("work", first),
            encode_activation(header, (job.section,)),
            qos=1,
            expiry=max(1.0, left),
            token=f"{'work' if receipt else 'sent'}:{job.job}:{attempt}:0",
            resend=False,
            bulk=True,
        )

    def _wants_receipt(self, peer: str, now: float) -> bool:
        last = self._receipts.get(peer)
        if last is not None and now - last < _RECEIPT_SECONDS:
            return False
        if len(self._receipts) >= _PEERS:
            self._receipts.clear()
        self._receipts[peer] = now
        return True
