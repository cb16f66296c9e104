"""What ``edgemesh up`` tells a person to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.cli.up import _explain
from edgemesh.transport.address import BrokerAddress


def test_it_has_a_photograph_published_as_the_readme_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Found by a reader: at QoS 0, as it said, a gateway that is away never sees the photograph."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

    _explain("home", BrokerAddress("127.0.0.1", 1883), ("zoo:face",))

    (told,) = [line.strip() for line in capsys.readouterr().err.splitlines() if "mosquitto_pub" in line]
    assert told in readme.splitlines() and "-q 1" in told


def test_what_it_has_typed_connects_as_it_does_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Found by a reader: the lines for a broker with users lacked the user."""
    address = BrokerAddress("pi.local", 8883, True, None, "ann", "secret", "/etc/my ca.crt")

    _explain("home", address, ("zoo:face",))

    err = capsys.readouterr().err
    options = "-h pi.local -p 8883 -u ann -P PASSWORD --cafile '/etc/my ca.crt'"
    assert f"mosquitto_sub {options} -t" in err and f"mosquitto_pub {options} -q 1" in err
    assert "secret" not in err
