from __future__ import annotations

import math

import pytest

from edgemesh.observe.amounts import bytes_text, count_text, seconds_text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (bytes_text(0), "0 B"),
        (bytes_text(999), "999 B"),
        (bytes_text(36_864), "36.9 KB"),
        (bytes_text(999_900), "1.00 MB"),
        (bytes_text(1_083_984), "1.08 MB"),
        (seconds_text(0.0141), "14.1 ms"),
        (seconds_text(0.000_002), "2.00 us"),
        (seconds_text(1.5), "1.50 s"),
        (seconds_text(math.inf), "-"),
        (count_text(183e6), "183 M"),
        (count_text(12), "12"),
    ],
)
def test_amounts_have_three_digits_and_a_unit(text, wanted):
    assert text == wanted
