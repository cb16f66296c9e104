"""Flags, then environment, then configuration file, then what answers or announces itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.cli import settings as module
from edgemesh.cli.settings import config_defaults, settings_from
from edgemesh.errors import SettingsError
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.broker_search import BrokerSearch


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('mesh = "cabin"\nbroker = "mqtt://10.0.0.5:1884"\n')
    defaults = config_defaults(file)

    from_file = settings_from(defaults, None, None, None, 0)
    from_flags = settings_from(defaults, "house", "mqtts://broker.local", None, 0)

    assert (from_file.mesh, from_file.address) == ("cabin", BrokerAddress("10.0.0.5", 1884))
    assert (from_flags.mesh, from_flags.address) == ("house", BrokerAddress("broker.local", 8883, tls=True))
    assert settings_from({}, None, None, None, 0).mesh == "home"


@pytest.mark.parametrize("text", ["mesh =", "[", "\0", "a = " + "[" * 2000])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)

    with pytest.raises(SettingsError, match=r"config\.toml is not TOML"):
        config_defaults(file)


def test_an_announced_broker_is_used_only_when_none_was_named_and_none_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announced = BrokerAddress("192.0.2.7", 1883)
    monkeypatch.setattr("edgemesh.transport.broker_search.find_broker", lambda timeout: announced)
    monkeypatch.setattr(module, "DEFAULT_BROKER", "mqtt://127.0.0.1:1")  # nothing listens on port 1

    assert settings_from({}, None, None, None, 0).address == announced
    named = settings_from({}, None, "mqtt://127.0.0.1:1", None, 0)
    assert named.address == BrokerAddress("127.0.0.1", 1)


def test_a_node_looks_for_its_broker_as_long_as_none_was_named() -> None:
    """Found by a reader: where it was at the start was where it was for ever."""
    search = settings_from({}, None, None, None, 0).whereabouts
    assert isinstance(search, BrokerSearch)
    assert search.address == BrokerAddress("localhost", 1883)

    named = {"broker": "mqtt://localhost"}
    for settings in (settings_from(named, None, None, None, 0), settings_from({}, None, "[::1]", None, 0)):
        assert isinstance(settings.whereabouts, BrokerAddress)


def test_embedded_is_refused_where_no_broker_can_be_started() -> None:
    with pytest.raises(SettingsError, match="edgemesh up"):
        _ = settings_from({}, None, "embedded", None, 0).address
