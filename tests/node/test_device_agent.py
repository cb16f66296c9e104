"""What a person chooses for a device, and what is refused."""

from __future__ import annotations

import pytest

from edgemesh.errors import SettingsError
from edgemesh.node.device_agent import agent_settings


@pytest.mark.parametrize("name", ["app", "decision", "gateway-0"])
def test_a_device_cannot_have_the_name_of_a_role(name: str) -> None:
    """Found by a reader: the gateway was thrown out, and submissions vanished."""
    with pytest.raises(SettingsError, match=f"device '{name}' is the name of a role"):
        agent_settings("home", name)


def test_a_machine_with_the_name_of_a_role_becomes_a_device_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "gateway-0.lan")

    assert agent_settings("home").device == "device-gateway-0"
