"""Measures the link of a device from inside: ``python -m testbeds.link_probe URL UP_BYTES DOWN_BYTES``.

A message of one byte and its acknowledgement take twice the delay. A large one that nobody subscribes to is
acknowledged when the broker has it whole; one to a topic of its own comes back down after that. Not the same
message for both: the acknowledgement would wait behind it on the way down.
Prints ``[bytes per second up, bytes per second down, seconds of delay each way]``.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from statistics import median
from urllib.parse import urlsplit

import paho.mqtt.client as paho

_UP, _BACK = "link-probe/up", "link-probe/back"
_SMALL, _LARGE = 9, 3
_SECONDS = 60.0


class _Probe:
    def __init__(self, url: str) -> None:
        self._came: queue.Queue[float] = queue.Queue()
        self._told: queue.Queue[float] = queue.Queue()
        ready: queue.Queue[bool] = queue.Queue()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda *_: self._came.put(time.monotonic())
        self._client.on_publish = lambda *_: self._told.put(time.monotonic())
        self._client.on_subscribe = lambda *_: ready.put(True)
        at = urlsplit(url)
        assert at.hostname is not None and at.port is not None
        self._client.connect(at.hostname, at.port)
        self._client.loop_start()
        self._client.subscribe(_BACK, 0)
        ready.get(timeout=_SECONDS)

    def acknowledged(self, nbytes: int) -> float:
        """Seconds until the broker's acknowledgement is here."""
        began = time.monotonic()
        self._client.publish(_UP, bytes(nbytes), qos=1)
        return self._told.get(timeout=_SECONDS) - began

    def back(self, nbytes: int) -> float:
        """Seconds until the message is back."""
        began = time.monotonic()
        self._client.publish(_BACK, bytes(nbytes), qos=1)
        self._told.get(timeout=_SECONDS)
        return self._came.get(timeout=_SECONDS) - began


def main() -> None:
    """See the module."""
    url, up, down = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    probe = _Probe(url)
    twice = median(probe.acknowledged(1) for _ in range(_SMALL))
    rate_up = up / max(1e-6, median(probe.acknowledged(up) for _ in range(_LARGE)) - twice)
    rest = twice + down / rate_up
    rate_down = down / max(1e-6, median(probe.back(down) for _ in range(_LARGE)) - rest)
    print(json.dumps([rate_up, rate_down, twice / 2.0]))


if __name__ == "__main__":
    main()
