"""The embedded broker: rumqttd from the package ``iotcore``, in a process of its own.

``python -m edgemesh.transport.embedded --port P`` runs it in the foreground until SIGTERM or SIGINT;
``EmbeddedBroker`` starts that as a child. For first steps and tests: brokers/README.md lists what it lacks.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path

from edgemesh.errors import BrokerError, EdgemeshError, missing_extra
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.child_process import ChildBroker
from edgemesh.transport.protocol_front import ProtocolFront

_CONNECTIONS = 500
_CONFIGURATION = """
id = 0
[router]
id = 0
max_connections = {connections}
# A subscription at QoS 0 gets at most this many retained messages. At QoS 1 a client gets 100 over all
# that it subscribes to before it acknowledges the first, which is fixed in rumqttd.
max_outgoing_packet_count = 10000
# What one subscription filter remembers, and the whole queue of a client that is away.
max_segment_size = 8388608
max_segment_count = 4
[v5.1]
name = "mqtt-5"
listen = "127.0.0.1:{port_5}"
next_connection_delay_ms = 0
[v5.1.connections]
connection_timeout_ms = 10000
max_payload_size = 268435456
max_inflight_count = 1000
[v4.1]
name = "mqtt-3.1.1"
listen = "127.0.0.1:{port_3}"
next_connection_delay_ms = 0
[v4.1.connections]
connection_timeout_ms = 10000
max_payload_size = 268435456
max_inflight_count = 1000
"""


class EmbeddedBroker:
    """A context manager: inside, a broker answers MQTT 5 and MQTT 3.1.1 on ``port`` of ``bind``."""

    def __init__(self, port: int, bind: str = "127.0.0.1") -> None:
        self.port = port
        self.bind = bind
        self._child: ChildBroker | None = None

    @property
    def address(self) -> BrokerAddress:
        """Where to connect from this machine."""
        return BrokerAddress(reachable(self.bind), self.port)

    @property
    def pid(self) -> int:
        """Process id, while it runs."""
        assert self._child is not None, "not started"
        return self._child.pid

    def start(self) -> None:
        """Start the process and wait until it answers an MQTT 5 CONNECT.

        Raises MissingExtraError without ``iotcore``, BrokerError when the port is taken or it does not start.
        """
        _require_iotcore()
        listen(self.bind, self.port).close()
        command = [sys.executable, "-m", "edgemesh.transport.embedded"]
        command += ["--port", str(self.port), "--bind", self.bind]
        self._child = ChildBroker(command, reachable(self.bind), self.port)
        self._child.wait_until_it_answers()

    def ended(self) -> str | None:
        """What it ended with though nobody stopped it; None while it runs."""
        return None if self._child is None else self._child.ended()

    def start_again(self) -> None:
        """Begin anew on the same port; raises as ``start``."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End the process; safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def reachable(bind: str) -> str:
    """A host of this machine under which what is bound to ``bind`` answers."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(bind, bind)


def listen(bind: str, port: int) -> socket.socket:
    """A listening socket; raises BrokerError when the port is taken, forbidden or no port of this machine."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((bind, port))
            sock.listen(128)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise BrokerError(
            f"cannot listen on port {port} of {bind or 'all interfaces'}: {error.strerror or error}; "
            "stop what uses it or choose another port"
        ) from None
    return sock


def run_in_foreground(port: int, bind: str) -> None:
    """Serve until SIGTERM or SIGINT; raises as ``EmbeddedBroker.start`` does."""
    _require_iotcore()
    from iotcore.iotcore import IotCoreBroker

    listener = listen(bind, port)
    # A connection needs two sockets and two pipes; a shell often allows 1024 files only.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # rumqttd reports each packet as an error; what matters reaches the clients.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    port_3, port_5 = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="edgemesh-broker-") as folder:
        file = Path(folder, "rumqttd.toml")
        file.write_text(_CONFIGURATION.format(connections=_CONNECTIONS, port_3=port_3, port_5=port_5))
        IotCoreBroker(config_path=str(file)).start()
    front = ProtocolFront(listener, port_3, port_5, _CONNECTIONS)
    threading.Thread(target=front.serve, daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # rumqttd has no way to shut down, and its threads would hold up a normal exit.
    os._exit(0)


def _require_iotcore() -> None:
    if importlib.util.find_spec("iotcore") is None:
        raise missing_extra("iotcore", "broker")


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def main() -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="python -m edgemesh.transport.embedded", description=__doc__)
    parser.add_argument("--port", type=int, default=1883, help="default: 1883")
    parser.add_argument(
        "--bind", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        run_in_foreground(arguments.port, arguments.bind)
    except EdgemeshError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
