"""What a person writes behind the options of ``edgemesh plan``: amounts, questions, policies."""

from __future__ import annotations

from typing import Any

import pytest

from edgemesh.cli.amounts import age, price, rate, seconds, share
from edgemesh.cli.policy_options import parsed_pin, policy_change
from edgemesh.cli.what_if import FORMS, Board, Question, parsed_question
from edgemesh.errors import SettingsError
from edgemesh.node.policy_change import PolicyChange
from edgemesh.protocol.accuracy import AccuracyBudget
from edgemesh.protocol.requests import Pin, Policy, Price, Zone
from edgemesh.protocol.what_if import BatteryChange, LinkChange, LoadChange
from edgemesh.roles.policy_words import NOTHING, policy_text

NOTHING_GIVEN: dict[str, Any] = {
    "objective": None, "bound": None, "deadline": None, "in_flight": None, "pins": (), "keep_off": (),
    "zones": (), "excluded": (), "codecs": None, "accuracy": None, "keep_input": False, "battery_floor": None,
    "max_temperature": None, "battery_weight": None, "mains_weight": None, "prices": (), "reset": (),
    "clear": False,
}  # fmt: skip


def given(**options: Any) -> PolicyChange:
    return policy_change(**{**NOTHING_GIVEN, **options})


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (rate, "5Mbit", 625_000.0),
        (rate, "5 mbit/s", 625_000.0),
        (rate, "100kbps", 12_500.0),
        (rate, "2MB/s", 2e6),
        (rate, ".5GB", 5e8),
        (rate, "5Mb", None),  # some mean bits by it, and some bytes
        (rate, "0Mbit", None),
        (rate, "-5Mbit", None),
        (rate, "5", None),
        (rate, "fast", None),
        (seconds, "20ms", 0.02),
        (seconds, "1.5 s", 1.5),
        (seconds, "20", None),
        (seconds, "20ms/s", None),
        (seconds, "9" * 400 + "s", None),
        (age, "1h", 3600.0),
        (age, "30min", 1800.0),
        (age, "2d", 172_800.0),
        (age, "1y", None),
        (age, "9" * 400 + "d", None),
        (share, "80%", 0.8),
        (share, "0.8", 0.8),
        (share, "80", None),
        (share, "101%", None),
        (price, "0.09/GB", (0.09, "gb")),
        (price, "1/s", (1.0, "s")),
        (price, "1", None),
        (price, "9" * 400 + "/s", None),
    ],
)
def test_amounts_are_read_as_they_are_written(reader: Any, text: str, value: Any) -> None:
    assert reader(text) == (value if value is None or not isinstance(value, float) else pytest.approx(value))


def test_a_question_may_have_many_parts() -> None:
    found = parsed_question(
        ["link:pi=5Mbit,20ms", "link:pi:up=1MB/s", "link:app=10ms", "device:laptop=off", "load:desk=80%",
         "battery:pi=10%", "add:pi-5", "add:pi-5=second"]
    )  # fmt: skip

    assert found == Question(
        off=("laptop",),
        links=(
            LinkChange("pi", "both", 625_000.0, 0.02),
            LinkChange("pi", "up", 1e6),
            LinkChange("app", "both", None, 0.01),
        ),
        loads=(LoadChange("desk", 0.8),),
        batteries=(BatteryChange("pi", 0.1),),
        boards=(Board("pi-5", "pi-5"), Board("pi-5", "second")),
    )


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("faster", FORMS[0]),
        ("", FORMS[0]),
        ("speed:pi=2", FORMS[0]),
        ("link:pi=fast", "write link:DEVICE=5Mbit"),
        ("link:pi", "write link:DEVICE=5Mbit"),
        ("link:pi:side=5Mbit", "link:DEVICE:up=5Mbit"),
        ("link:a/b=5Mbit", "is no valid name"),
        ("device:laptop=on", "write device:DEVICE=off"),
        ("load:laptop=much", "write load:DEVICE=80%"),
        ("battery:pi=-1%", "write battery:DEVICE=10%"),
        ("add:", "write add:pi-5"),
        ("add:pi-5=A B", "is no valid name"),
    ],
)
def test_what_is_not_understood_names_the_right_form(text: str, form: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parsed_question([text])

    assert form in str(refused.value)
    assert repr(text) in str(refused.value)


def test_everything_that_is_kept_to_can_be_given() -> None:
    change = given(
        objective="energy",
        bound="1.5x",
        in_flight=4,
        pins=("0-1:pi,laptop", "1-2:zone=home"),
        keep_off=("2-3:cloud",),
        zones=("home=pi,laptop",),
        excluded=("old, older",),
        codecs="f16, q8",
        accuracy="2%,95%",
        keep_input=True,
        battery_floor="20%",
        max_temperature=75.0,
        battery_weight=3.0,
        mains_weight=0.0,
        prices=("cloud=0.001/s,0.09/GB",),
    )

    policy = change.applied(Policy())

    assert policy == Policy(
        codecs=("raw", "f16", "q8"),
        pins=(Pin(0, 1, "pi", ("laptop",)), Pin(1, 2, zone="home"), Pin(2, 3, "cloud", never=True)),
        exclude=("old", "older"),
        keep_input=True,
        accuracy=AccuracyBudget(0.02, 0.95),
        objective="energy",
        bound_factor=1.5,
        in_flight=4,
        zones=(Zone("home", ("pi", "laptop")),),
        battery_floor=0.2,
        max_temperature=75.0,
        battery_weight=3.0,
        mains_weight=0.0,
        prices=(Price("cloud", 0.001, 0.09),),
    )
    words = policy_text(policy)
    for part in (
        "objective energy", "1.5 times the best", "4 jobs in flight", "codecs raw, f16, q8", "within 0.02",
        "units 0-1 only on pi or laptop", "units 1-2 only in zone home", "units 2-3 never on cloud",
        "zone home is pi, laptop", "never old", "raw input stays", "below 20%", "above 75 degrees",
        "battery counts 3 times", "mains counts 0 times", "cloud costs 0.001 per second and 0.09 per GB",
    ):  # fmt: skip
        assert part in words
    assert policy_text(Policy()) == NOTHING


def test_what_is_not_given_stays_and_a_time_takes_the_place_of_a_factor() -> None:
    before = Policy(exclude=("old",), bound_factor=1.5)

    assert given(bound="120ms").applied(before) == Policy(exclude=("old",), bound_seconds=0.12)
    assert given(deadline="1s").applied(before).bound_seconds == 1.0
    assert given(bound="2x").applied(Policy(bound_seconds=1.0)) == Policy(bound_factor=2.0)


def test_each_part_can_be_forgotten_alone() -> None:
    before = Policy(exclude=("old",), bound_factor=1.5, keep_input=True)

    assert given(reset=("bound", "exclude")).applied(before) == Policy(keep_input=True)
    assert given(clear=True).applied(before) == Policy()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bound": "0.5x"}, "write it as 1.25x"),
        ({"bound": "nanx"}, "write it as 1.25x"),
        ({"bound": "soon"}, "write it as 1.25x"),
        ({"bound": "2d"}, "write it as 1.25x"),
        ({"bound": "1.2x", "deadline": "1s"}, "give one of them"),
        ({"deadline": "0ms"}, "write it as 120ms"),
        ({"deadline": "90000s"}, "up to a day"),
        ({"zones": ("home",)}, "write it as --zone home=pi-4b,laptop"),
        ({"accuracy": "good"}, "write it as 1%"),
        ({"accuracy": "1%,"}, "write it as 1%"),
        ({"battery_floor": "20"}, "write it as 20%"),
        ({"prices": ("cloud=5",)}, "write it as --price cloud=0.0001/s,0.09/GB"),
        ({"excluded": ("a/b",)}, "no valid name"),
        ({"keep_off": ("1:pi",)}, "--keep-off '1:pi' is no range"),
    ],
)
def test_what_cannot_be_kept_to_names_the_right_form(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        given(**options)

    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (PolicyChange(clear=True, keep_input=True), "--clear forgets everything"),
        (PolicyChange(reset=("bound",), bound_factor=2.0), "--reset bound forgets what --bound sets"),
    ],
)
def test_a_change_that_takes_back_what_it_gives_is_refused(change: PolicyChange, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        change.applied(Policy())


def test_a_pin_may_name_devices_or_a_zone() -> None:
    assert parsed_pin("0-2:pi") == Pin(0, 2, "pi")
    assert parsed_pin("0-2:zone=home", never=True) == Pin(0, 2, zone="home", never=True)
