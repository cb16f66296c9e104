"""Where a broker is that nobody named: on this machine, else where one announces itself by mDNS."""

from __future__ import annotations

import logging
import math
from typing import Final, TypeAlias

from edgemesh.errors import MissingExtraError
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.discovery import find_broker
from edgemesh.transport.greeting import ACCEPTED, greeting

PATIENCE: Final = 10.0
"""Seconds for which a broker is waited for where it is expected. After a power cut a node may be up before
the broker of its own machine, and a mesh of which half took the first stranger is split."""
_DISCOVERY_SECONDS = 2.0
_log = logging.getLogger("edgemesh")


class BrokerSearch:
    """Looked for again while none is reached: brokers begin after their mesh, and get other addresses.

    For one connection at a time. To be asked in a thread that may wait for seconds.
    """

    def __init__(self, local: BrokerAddress, patience: float = PATIENCE) -> None:
        """``local`` is where it is expected: on this machine."""
        self.address = local
        """Where to try first: where it was found last."""
        self._local = local
        self._patience = patience
        self._told = ""

    def look(self, away: float = math.inf) -> BrokerAddress:
        """Where to try next when no broker was reached for ``away`` seconds."""
        patient = away < self._patience
        if patient and self.address == self._local:
            return self.address  # whoever asks tries it now
        if self._answers_here():
            self._move(self._local, "answers on this machine")
        elif not patient:
            self._look_around()
        return self.address

    def _answers_here(self) -> bool:
        answer = greeting(self._local.host, self._local.port)
        # One that refuses is worth an error that says so, but no broker is left for it.
        return answer == ACCEPTED or (answer is not None and self.address == self._local)

    def _look_around(self) -> None:
        try:
            found = find_broker(_DISCOVERY_SECONDS)
        except (MissingExtraError, OSError) as error:
            text = f"nothing answers at {self.address}, and none can be looked for by mDNS: {error}"
            self._tell(logging.INFO, text)
            return
        if found is not None:
            self._move(found, "announces itself by mDNS")
            return
        self._tell(
            logging.WARNING,
            f"nothing answers at {self.address} and no broker announces itself by mDNS: name yours with "
            "--broker mqtt://HOST, or start one with  edgemesh broker",
        )

    def _move(self, address: BrokerAddress, why: str) -> None:
        if address != self.address:
            self.address = address
            self._tell(logging.WARNING, f"using the broker at {address}, which {why}")

    def _tell(self, level: int, text: str) -> None:
        if text != self._told:
            self._told = text
            _log.log(level, "%s", text)


Whereabouts: TypeAlias = BrokerAddress | BrokerSearch
"""Of a broker: the address that was named, or what looks for one."""
