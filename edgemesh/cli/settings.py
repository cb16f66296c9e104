"""Global settings of the program: flags, then environment, then configuration file, then defaults."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.errors import MissingExtraError, SettingsError
from edgemesh.protocol.ids import checked_id

if TYPE_CHECKING:
    from edgemesh.transport.address import BrokerAddress

DEFAULT_MESH = "home"
DEFAULT_BROKER = "mqtt://localhost:1883"
EMBEDDED = "embedded"
_DISCOVERY_SECONDS = 2.0
_log = logging.getLogger("edgemesh")


@dataclass(frozen=True)
class Settings:
    """What every command is given."""

    mesh: str
    broker: str
    """A URL, or ``embedded``."""
    broker_given: bool
    """Whether a person named it, by whatever way."""
    ca_file: Path | None
    verbose: int

    @cached_property
    def address(self) -> BrokerAddress:
        """The broker's address: the one named, else localhost's, else one that announces itself by mDNS.

        Raises SettingsError for ``embedded``, which only some commands can start, and for a CA file that
        cannot be used.
        """
        from edgemesh.transport.address import parse_address, tls_context

        if self.broker == EMBEDDED:
            raise SettingsError(
                "--broker embedded works with  edgemesh up  and  edgemesh demo;  others need the URL of a "
                "broker that runs"
            )
        address = parse_address(self.broker, str(self.ca_file) if self.ca_file else None)
        if address.tls and address.ca_file:
            tls_context(address)  # a node that runs already could only log what is wrong with the file
        return address if self.broker_given else _announced_unless_answering(address)


def _announced_unless_answering(address: BrokerAddress) -> BrokerAddress:
    from edgemesh.transport.greeting import greeting

    if greeting(address.host, address.port) is not None:
        return address
    from edgemesh.transport.discovery import find_broker

    try:
        found = find_broker(_DISCOVERY_SECONDS)
    except MissingExtraError as error:
        _log.info("nothing answers at %s, and looking for a broker needs more: %s", address, error)
        return address
    if found is None:
        _log.warning(
            "nothing answers at %s and no broker announces itself by mDNS: name yours with --broker "
            "mqtt://HOST, or start one with  edgemesh broker",
            address,
        )
        return address
    _log.warning("using the broker at %s, which announces itself by mDNS", found)
    return found


def settings_from(
    defaults: dict[str, Any], mesh: str | None, broker: str | None, ca_file: Path | None, verbose: int
) -> Settings:
    """Settings of given options (already with the environment's) over the file's ``defaults``."""
    chosen = broker or defaults.get("broker")
    if isinstance(chosen, dict):
        chosen = None  # a table [broker] is about the command of that name
    ca = ca_file or defaults.get("ca")
    return Settings(
        checked_id(str(mesh or defaults.get("mesh") or DEFAULT_MESH), "mesh"),
        str(chosen or DEFAULT_BROKER),
        chosen is not None,
        Path(ca) if ca else None,
        verbose,
    )


def config_defaults(path: Path | None) -> dict[str, Any]:
    """Contents of the configuration file; that of ``~/.config/edgemesh`` where none is named.

    Raises SettingsError for a file that is not there or no TOML.
    """
    if path is None:
        from edgemesh.device.identity import config_directory

        path = config_directory() / "config.toml"
        if not path.exists():
            return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"configuration file {path} is not TOML: {error}") from None
