"""Broker addresses: ``mqtt://``, ``mqtts://``, ``ws://``, ``wss://`` URLs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from edgemesh.errors import SettingsError

if TYPE_CHECKING:
    import ssl

_SCHEMES = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_ENCODE = "write /, ? and # in a password as %2F, %3F and %23, and @ behind the host as %40"


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker listens, and as whom to connect."""

    host: str
    port: int
    tls: bool = False
    websocket_path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def __str__(self) -> str:
        """The URL without the password."""
        scheme = {
            (False, False): "mqtt",
            (True, False): "mqtts",
            (False, True): "ws",
            (True, True): "wss",
        }[self.tls, self.websocket_path is not None]
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{user}{host}:{self.port}{self.websocket_path or ''}"


def parse_address(url: str, ca_file: str | None = None) -> BrokerAddress:
    """The address in a broker URL; a bare host means ``mqtt://``. Raises SettingsError."""
    text = url if "://" in url else f"mqtt://{url}"
    shown = _without_password(url)
    try:
        parts = urlsplit(text)
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            # The user would be taken for the host, and a password that begins with digits for its port.
            raise ValueError(_ENCODE)
    except ValueError as error:
        # The words of Python may quote the password.
        raise _no_url(shown, _ENCODE if "@" in url else str(error)) from None
    try:
        port = parts.port
    except ValueError as error:
        raise _no_url(shown, str(error)) from None
    if parts.scheme not in _SCHEMES:
        raise SettingsError(
            f"broker {shown!r} has the unknown scheme {parts.scheme!r}: use {', '.join(_SCHEMES)} or "
            "'embedded'"
        )
    if not parts.hostname:
        raise SettingsError(f"broker {shown!r} names no host: write mqtt://HOST:PORT")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        # Whoever connects would meet it, and take it for no failure of the network.
        raise SettingsError(f"broker {shown!r} has no host name ({error}): see its dots") from None
    return BrokerAddress(
        parts.hostname,
        port or _SCHEMES[parts.scheme],
        parts.scheme in ("mqtts", "wss"),
        (parts.path or "/mqtt") if parts.scheme in ("ws", "wss") else None,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        ca_file,
    )


def tls_context(address: BrokerAddress) -> ssl.SSLContext:
    """What verifies the broker; raises SettingsError for a CA file that cannot be used."""
    import ssl

    try:
        return ssl.create_default_context(cafile=address.ca_file)
    except OSError as error:  # ssl.SSLError is one: a file that holds no certificate
        raise SettingsError(
            f"cannot use the CA file {address.ca_file}: {error.strerror or error}; --ca wants a PEM file"
        ) from None


def _no_url(shown: str, why: str) -> SettingsError:
    return SettingsError(f"broker {shown!r} is no URL ({why}): write mqtt://HOST:PORT")


def _without_password(url: str) -> str:
    """For messages, which end in terminals and logs."""
    before, at, host = url.rpartition("@")
    if not at:
        return url
    scheme, slashes, user = before.partition("://")
    if not slashes or ":" in scheme:  # those of a password
        scheme, slashes, user = "", "", before
    return f"{scheme}{slashes}{user.partition(':')[0]}@{host}"
