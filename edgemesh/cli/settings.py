"""Global settings of the program: flags, then environment, then configuration file, then defaults."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.errors import SettingsError
from edgemesh.protocol.ids import checked_id

if TYPE_CHECKING:
    from edgemesh.transport.address import BrokerAddress
    from edgemesh.transport.broker_search import Whereabouts

DEFAULT_MESH = "home"
DEFAULT_BROKER = "mqtt://localhost:1883"
EMBEDDED = "embedded"


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
        from edgemesh.transport.broker_search import BrokerSearch

        broker = self.whereabouts
        return broker.look() if isinstance(broker, BrokerSearch) else broker

    @cached_property
    def whereabouts(self) -> Whereabouts:
        """For nodes that run on: the address named, else what looks for a broker whenever none is reached.

        Waits for nothing; raises as ``address`` does.
        """
        from edgemesh.transport.address import parse_address, tls_context
        from edgemesh.transport.broker_search import BrokerSearch

        if self.broker == EMBEDDED:
            raise SettingsError(
                "--broker embedded works with  edgemesh up  and  edgemesh demo;  others need the URL of a "
                "broker that runs"
            )
        address = parse_address(self.broker, str(self.ca_file) if self.ca_file else None)
        if address.tls and address.ca_file:
            tls_context(address)  # a node that runs already could only log what is wrong with the file
        return address if self.broker_given else BrokerSearch(address)


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


def default_config() -> Path:
    """The configuration file where none is named; it need not be there."""
    from edgemesh.device.identity import config_directory

    return config_directory() / "config.toml"


def config_defaults(path: Path | None) -> dict[str, Any]:
    """Contents of the configuration file; that of ``~/.config/edgemesh`` where none is named.

    Raises SettingsError for a file that is not there or no TOML.
    """
    if path is None:
        path = default_config()
        if not path.exists():
            return {}
    from edgemesh.device.toml_text import parse_toml

    try:
        return parse_toml(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"configuration file {path} is not TOML: {error}") from None
