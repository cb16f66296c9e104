"""Finds and announces brokers on the local network by mDNS (DNS-SD, RFC 6763), with the extra ``mdns``."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgemesh.device.identity import default_device_id
from edgemesh.errors import MissingExtraError, missing_extra
from edgemesh.transport.address import BrokerAddress

if TYPE_CHECKING:
    from zeroconf import ServiceInfo

SERVICES = {"_secure-mqtt._tcp.local.": True, "_mqtt._tcp.local.": False}
"""Service type to whether it speaks TLS."""
_log = logging.getLogger("edgemesh")


def find_broker(timeout: float = 3.0, interfaces: Sequence[str] | None = None) -> BrokerAddress | None:
    """The first broker that announces itself within ``timeout`` seconds, or None.

    One with TLS goes before one without when both are known by then. Whoever is on the network can announce
    anything, so this is for a first guess that a person sees, never for sending credentials.
    ``interfaces`` are addresses of this machine; by default all. Raises MissingExtraError without zeroconf,
    OSError where nothing can be asked: without a network, or on a machine too busy for it.
    """
    zeroconf = _zeroconf()
    found: dict[bool, BrokerAddress] = {}
    first = threading.Event()

    def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        info = zeroconf.get_service_info(service_type, name, timeout=int(timeout * 1000))
        address = _address(info, tls=SERVICES[service_type])
        if address is not None:
            found.setdefault(address.tls, address)
            first.set()

    try:
        with contextlib.closing(_open(zeroconf, interfaces)) as responder:
            browser = zeroconf.ServiceBrowser(responder, list(SERVICES), handlers=[changed])
            first.wait(timeout)
            browser.cancel()
    except zeroconf.Error as error:
        raise OSError(str(error) or type(error).__name__) from None
    return found.get(True) or found.get(False)


class Announcement:
    """Names this machine's broker as ``_mqtt._tcp`` until ``stop``, from a thread of its own.

    Best effort: without zeroconf or without a network the mesh works all the same, with --broker.
    """

    def __init__(self, port: int, name: str, interfaces: Sequence[str] | None) -> None:
        self._port, self._name, self._interfaces = port, name, interfaces
        self._over = threading.Event()
        # Registering asks the network for a second whether the name is free: nobody should wait for that.
        self._thread = threading.Thread(target=self._run, name="mdns", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Withdraw it; safe to call twice."""
        self._over.set()
        self._thread.join()

    def __enter__(self) -> Announcement:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            zeroconf = _zeroconf()
        except MissingExtraError as error:
            _log.info("the broker is not announced on the network: %s", error)
            return
        try:
            with contextlib.closing(_open(zeroconf, self._interfaces)) as responder:
                responder.register_service(self._info(zeroconf), allow_name_change=True)
                self._over.wait()
                responder.unregister_all_services()
        except (OSError, zeroconf.Error) as error:
            _log.info("the broker is not announced on the network: %s", error)

    def _info(self, zeroconf: Any) -> ServiceInfo:
        addresses = self._interfaces or [_own_address()]
        info: ServiceInfo = zeroconf.ServiceInfo(
            "_mqtt._tcp.local.",
            f"{self._name}._mqtt._tcp.local.",
            addresses=[socket.inet_aton(address) for address in addresses],
            port=self._port,
            server=f"{self._name}.local.",
        )
        return info


def announce(port: int, name: str | None = None, interfaces: Sequence[str] | None = None) -> Announcement:
    """Announce the broker on ``port`` of this machine; returns at once. ``name`` is by default the host's."""
    return Announcement(port, name or default_device_id(), interfaces)


def _zeroconf() -> Any:
    try:
        import zeroconf
    except ImportError:
        raise missing_extra("zeroconf", "mdns") from None
    return zeroconf


def _open(zeroconf: Any, interfaces: Sequence[str] | None) -> Any:
    chosen = list(interfaces) if interfaces else zeroconf.InterfaceChoice.All
    return zeroconf.Zeroconf(interfaces=chosen, ip_version=zeroconf.IPVersion.V4Only)


def _address(info: ServiceInfo | None, *, tls: bool) -> BrokerAddress | None:
    if info is None or info.port is None:
        return None
    # A certificate names a host, not an address.
    if tls and info.server:
        return BrokerAddress(info.server.rstrip("."), info.port, tls=True)
    addresses = info.parsed_addresses()
    return BrokerAddress(addresses[0], info.port) if addresses else None


def _own_address() -> str:
    """The address under which others reach this machine, as routing would choose it; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address (RFC 5737): only the route is looked up
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
