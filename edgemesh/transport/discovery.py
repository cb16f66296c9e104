"""Finds and announces brokers on the local network by mDNS (DNS-SD, RFC 6763), with the extra ``mdns``."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgemesh.device.identity import default_device_id
from edgemesh.errors import MissingExtraError, missing_extra
from edgemesh.transport.address import BrokerAddress

if TYPE_CHECKING:
    from zeroconf import ServiceInfo

SERVICES = {"_secure-mqtt._tcp.local.": True, "_mqtt._tcp.local.": False}
"""Service type to whether it speaks TLS."""
_LOOK_SECONDS, _ABSENT_SECONDS = 30.0, 3.0
"""Between looks at the machine's address, and while it has none: a broker may begin before the network."""
_HOST = re.compile(r"[\w-]+(\.[\w-]+)*")
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
        address = announced(zeroconf, service_type, name, timeout)
        if address is not None:
            found.setdefault(address.tls, address)
            first.set()

    try:
        with contextlib.closing(_open(zeroconf, interfaces)) as responder:
            browser = zeroconf.ServiceBrowser(responder, list(SERVICES), handlers=[changed])
            first.wait(timeout)
            browser.cancel()
    except (zeroconf.Error, RuntimeError) as error:  # the latter where no thread can be started
        raise OSError(str(error) or type(error).__name__) from None
    return found.get(True) or found.get(False)


class Announcement:
    """Names this machine's broker as ``_mqtt._tcp`` until ``stop``, from a thread of its own.

    Under the address that the machine has at the time; while nobody else can reach it nothing is said.
    Best effort: without zeroconf or without a network the mesh works all the same, with --broker.
    """

    def __init__(self, port: int, name: str, interfaces: Sequence[str] | None) -> None:
        self._port, self._name, self._interfaces = port, name, interfaces
        self._over = threading.Event()
        self._problem = ""
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
            self._not_announced(str(error))
            return
        while not self._over.is_set():
            try:
                addresses = self._addresses()
                if not addresses:
                    self._not_announced("this machine has no address there")
                    self._over.wait(_ABSENT_SECONDS)
                    continue
                # Anew for each address: a responder knows the interfaces that were there when it began.
                with contextlib.closing(_open(zeroconf, self._interfaces)) as responder:
                    responder.register_service(self._info(zeroconf, addresses), allow_name_change=True)
                    self._problem = ""
                    while not self._over.wait(_LOOK_SECONDS) and self._addresses() == addresses:
                        pass
                    responder.unregister_all_services()
            # Without files, threads or a network now; RuntimeError is what Python says of threads.
            except (OSError, RuntimeError, zeroconf.Error) as error:
                self._not_announced(str(error))
                self._over.wait(_LOOK_SECONDS)

    def _not_announced(self, why: str) -> None:
        if why != self._problem:
            self._problem = why
            _log.info("the broker is not announced on the network: %s", why)

    def _addresses(self) -> list[str]:
        if self._interfaces:
            return list(self._interfaces)
        own = _own_address()
        return [] if own is None else [own]

    def _info(self, zeroconf: Any, addresses: Sequence[str]) -> ServiceInfo:
        info: ServiceInfo = zeroconf.ServiceInfo(
            "_mqtt._tcp.local.",
            f"{self._name}._mqtt._tcp.local.",
            addresses=[socket.inet_aton(address) for address in addresses],
            port=self._port,
            server=f"{self._name}.local.",
        )
        return info


def announce(port: int, name: str | None = None, interfaces: Sequence[str] | None = None) -> Announcement:
    """Announce the broker on ``port`` of this machine; returns at once. ``name`` is by default the host's.

    ``interfaces`` are the addresses where it can be reached; by default whichever the machine has.
    """
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


def announced(responder: Any, service_type: str, name: str, timeout: float) -> BrokerAddress | None:
    """Where the broker is that announces itself as ``name``; None where what is said of it is no use."""
    try:
        info = responder.get_service_info(service_type, name, timeout=int(timeout * 1000))
    except _zeroconf().Error:
        return None  # a name that no service has: the thread that looks must go on
    return _address(info, tls=SERVICES[service_type])


def _address(info: ServiceInfo | None, *, tls: bool) -> BrokerAddress | None:
    if info is None or not info.port:
        return None
    # A certificate names a host, not an address.
    if tls and info.server:
        host = info.server.rstrip(".")
        return BrokerAddress(host, info.port, tls=True) if _is_host(host) else None
    addresses = info.parsed_addresses()
    return BrokerAddress(addresses[0], info.port) if addresses else None


def _is_host(name: str) -> bool:
    """Whether it can be looked up, and shown: a name of the network's may hold anything."""
    try:
        return _HOST.fullmatch(name) is not None and bool(name.encode("idna"))
    except UnicodeError:
        return False


def _own_address() -> str | None:
    """The address under which others reach this machine, as routing would choose it; None without any.

    Nothing is sent.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # A documentation address (RFC 5737): only the route is looked up. A network on its own has none.
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))
        routed: str = probe.getsockname()[0]
    return next((each for each in (routed, *_all_addresses()) if not each.startswith(("0.", "127."))), None)


def _all_addresses() -> Iterator[str]:
    """IPv4 addresses of this machine's interfaces."""
    import ifaddr  # what zeroconf uses

    for adapter in ifaddr.get_adapters():
        yield from (str(ip.ip) for ip in adapter.ips if ip.is_IPv4)
