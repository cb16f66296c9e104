"""Decoders of fields, and what they make of a map."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from edgemesh.errors import DecodeError
from edgemesh.protocol import fields
from edgemesh.protocol.fields import Check, from_plain, to_plain
from tests.protocol.messages import FRAMES, JSON_MESSAGES

HEADERS = {type(frame.header): frame.header for frame in FRAMES.values()}
MESSAGES = [*JSON_MESSAGES.values(), *HEADERS.values()]
ODD = [
    float("nan"),
    float("inf"),
    1.5,
    1 << 64,
    1 << 53,
    -1,
    0,
    1,
    True,
    "\ud800",
    "x" * 5000,
    "\u00b5",
    "",
    None,
]
Small = Annotated[int, Check("0 to 9", range(10).__contains__)]
Short = Annotated[str, Check("short", lambda text: len(text) < 9)]
Positive = Annotated[float, Check("more than 0", lambda x: x > 0.0)]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:10])
@pytest.mark.parametrize(("hint", "plain"), [(Small, int), (Short, str), (Positive, float)])
def test_a_check_takes_what_its_type_takes_and_its_condition_holds_of(
    hint: Any, plain: type, value: object
) -> None:
    def outcome(decode: Any) -> object:
        try:
            return decode(value)
        except fields._FieldError:
            return "refused"

    held = hint.__metadata__[0].holds

    found = outcome(fields._decoder(hint))

    alone = outcome(fields._decoder(plain))
    assert found == (alone if alone != "refused" and held(alone) else "refused")


def test_a_decoded_message_is_one_as_made_by_hand() -> None:
    for message in MESSAGES:
        decoded = from_plain(type(message), to_plain(message))

        assert decoded == message
        assert repr(decoded) == repr(message)
        assert vars(decoded).keys() == vars(message).keys()


@pytest.mark.parametrize("value", [None, 1, "text", [], b"", ["job"]])
def test_what_is_no_map_is_refused(value: object) -> None:
    with pytest.raises(DecodeError, match="must be a map"):
        from_plain(type(MESSAGES[0]), value)
