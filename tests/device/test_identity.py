"""Default id and directories of a device."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.device.identity import cache_directory, config_directory, data_directory, default_device_id
from edgemesh.protocol.ids import checked_device, is_id


@pytest.mark.parametrize(
    ("hostname", "wanted"),
    [
        ("raspberrypi", "raspberrypi"),
        ("Kitchen-Pi.local", "kitchen-pi"),
        ("front_door cam", "front-door-cam"),
        ("Jörgs MacBook", "jorgs-macbook"),
        ("-pi-", "pi"),
        ("电脑", "device"),
        ("", "device"),
        ("x" * 62 + "-y", "x" * 62),
        ("gateway", "gateway"),
        ("gateway-0", "device-gateway-0"),
        ("Decision.local", "device-decision"),
        ("app", "device-app"),
        ("gateway-" + "x" * 60, "device-gateway-" + "x" * 48),
    ],
)
def test_a_host_name_becomes_an_id(hostname: str, wanted: str) -> None:
    assert default_device_id(hostname) == wanted


@given(st.text())
def test_every_host_name_becomes_a_valid_id(hostname: str) -> None:
    assert checked_device(default_device_id(hostname), "device")


def test_this_machine_has_an_id() -> None:
    assert is_id(default_device_id())


def test_directories_follow_the_xdg_specification() -> None:
    environ = {"HOME": "/home/ada", "XDG_CACHE_HOME": "/fast/cache", "XDG_DATA_HOME": "relative/is/ignored"}

    assert config_directory(environ) == Path("/home/ada/.config/edgemesh")
    assert data_directory(environ) == Path("/home/ada/.local/share/edgemesh")
    assert cache_directory(environ) == Path("/fast/cache/edgemesh")


def test_one_variable_moves_all_directories() -> None:
    environ = {"HOME": "/home/ada", "XDG_CACHE_HOME": "/fast/cache", "EDGEMESH_HOME": "/srv/edgemesh"}

    assert config_directory(environ) == Path("/srv/edgemesh/config")
    assert data_directory(environ) == Path("/srv/edgemesh/data")
    assert cache_directory(environ) == Path("/srv/edgemesh/cache")
