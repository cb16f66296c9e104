"""Scenario files: what is shipped is read, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.errors import SettingsError
from edgemesh.simulation.scenario import states_at
from edgemesh.simulation.scenario_file import load_scenario, parse_scenario, scenario_names

SMALL = """
description = "two boards"
duration = 60
models = ["alexnet"]
[devices.pi]
board = "pi-4b"
[devices.laptop]
board = "laptop"
[[streams]]
origin = "pi"
per_second = 1.0
source = "made up"
"""
SLOWER = """
[[changes]]
at = 20
device = "laptop"
load = 0.5
source = "made up"
"""


def test_the_issue_s_scenarios_are_shipped_and_every_one_is_read() -> None:
    assert set(scenario_names()) == {
        "battery-drains", "calm", "camera-streams", "cloud-latency", "device-leaves", "laptop-bursts",
        "pi-throttles", "wifi-swings",
    }  # fmt: skip
    for name in scenario_names():
        scenario = load_scenario(name)
        assert scenario.models == ("alexnet", "mobilenetv2", "vgg16"), name
        assert load_scenario(f"{name}.toml") == scenario
        assert all(change.source for change in scenario.changes)


def test_changes_add_up_and_hold_from_their_time_on() -> None:
    text = SMALL + SLOWER + SLOWER.replace("20", "40").replace("load = 0.5", "clock = 0.5")
    scenario = parse_scenario(text, "small", "small.toml")

    assert scenario.phases == (0.0, 20.0, 40.0)
    slowdowns = [states_at(scenario, at)["laptop"].slowdown for at in (0.0, 19.9, 20.0, 40.0)]
    assert slowdowns == [1.0, 1.0, 2.0, 4.0]
    assert states_at(scenario, 50.0)["pi"].slowdown == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description = ", "small.toml is not TOML"),
        (SMALL.replace('board = "laptop"', 'board = "toaster"'), "devices.laptop.board must be one of"),
        (SMALL.replace('source = "made up"', ""), "streams[0].source must be a text"),
        (SMALL.replace("per_second = 1.0", "per_second = -1"), "streams[0].per_second must be a number from"),
        (SMALL.replace("per_second = 1.0", ""), "streams[0] needs one of per_second and busy"),
        (SMALL.replace('origin = "pi"', 'origin = "fridge"'), "streams[0].origin must be one of pi, laptop"),
        (SMALL.replace("duration = 60", 'duration = "long"'), "duration must be a number from 1 to 1e+06"),
        (SMALL.replace("duration = 60", "duration = nan"), "duration must be a number"),
        (SMALL + SLOWER.replace("load = 0.5", ""), "changes[0] changes nothing"),
        (SMALL + SLOWER.replace("load", "weather"), "changes[0].weather is not known"),
        (SMALL + SLOWER.replace("load = 0.5", "load = 0.5\nkilled = true"), "changes[0].killed says how"),
        (SMALL + SLOWER.replace('"laptop"', '"fridge"'), "changes[0].device must be one of"),
        (SMALL.replace("[devices.pi]", "[policy]\nobjective = 'x'\n[devices.pi]"), "Policy.objective"),
        (SMALL.replace("alexnet", "alexa"), "models must be a list of alexnet"),
    ],
)  # fmt: skip
def test_a_wrong_file_gets_one_sentence_with_file_and_key(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_scenario(text, "small", "small.toml")

    assert "small.toml" in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file or directory; name a file, or one of battery-dra"):
        load_scenario(str(tmp_path / "none.toml"))
