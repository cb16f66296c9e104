from __future__ import annotations

import math

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.observe.chart import model_chart_png
from edgemesh.observe.textchart import model_chart_text
from edgemesh.protocol.manifest import Manifest, TensorSpec, Unit


def manifest(macs: list[int], elements: list[int], name: str = "conv") -> Manifest:
    """Units with these multiply-accumulates and int8 tensors of these sizes at the cuts."""
    units = tuple(Unit(f"{name}{i}", 1, n, 10 * n, 1) for i, n in enumerate(macs))
    cuts = tuple((TensorSpec(f"t{i}", "int8", (n,)),) for i, n in enumerate(elements))
    return Manifest("tiny", "0" * 64, "tflite", 1, units, cuts, 1, ("0" * 64,))


TINY = manifest([1000, 4000, 0], [500, 800, 200, 10])


def test_the_text_has_one_line_per_unit_with_its_bytes_and_weights():
    lines = model_chart_text(TINY, None, 80).splitlines()

    assert [line.split() for line in lines[1:-1]] == [
        ["unit", "name", "macs", "cut", "after", "weights"],
        ["input", "500", "B"],
        ["0", "conv0", "█" * 9 + "▌", "1.00", "k", "800", "B", "10.0", "KB"],
        ["1", "conv1", "█" * 38, "4.00", "k", "200", "B*", "40.0", "KB"],
        ["2", "conv2", "0", "10", "B", "0", "B"],
    ]


def test_codecs_are_named_at_the_cuts_between_units():
    codecs = [[], ["f16", "q8"], [], []]

    lines = model_chart_text(TINY, None, 80, codecs=codecs).splitlines()

    assert lines[1].endswith("  cut as")
    assert [line.split()[-1] for line in lines[2:-1]] == ["B", "q8", "-", "B"]
    assert lines[3].endswith("f16 q8")
    assert "budget" in lines[-1] and all(len(line) <= 80 for line in lines)


def test_the_bar_follows_the_first_device_and_each_device_has_a_column():
    text = model_chart_text(TINY, {"pi": [0.004, 0.001, math.nan], "desk": [0.1, 0.2, 0.3]}, 80)

    first, second, third = (line.split() for line in text.splitlines()[3:6])
    assert len(first[2]) > len(second[2]) and "4.00 ms" in " ".join(first) and "200 ms" in " ".join(second)
    assert third[:5] == ["2", "conv2", "-", "300", "ms"]


def test_a_terminal_without_block_elements_gets_plain_characters():
    text = model_chart_text(manifest([1, 2], [1, 1, 1], name="größe"), None, 80, encoding="ascii")

    assert text.isascii() and "####" in text and "gr??e0" in text


@given(
    st.lists(st.integers(0, 10**12), min_size=1, max_size=40),
    st.integers(20, 200),
    st.text("abc/_", min_size=1, max_size=60),
    st.booleans(),
)
def test_no_line_is_wider_than_the_terminal(macs, width, name, timed):
    seconds = {f"a-device-with-a-long-name-{d}": [m / 1e9 for m in macs] for d in range(2)} if timed else None

    text = model_chart_text(manifest(macs, [1] * (len(macs) + 1), name), seconds, width)

    assert max(map(len, text.splitlines())) <= max(width, 72)


@pytest.mark.parametrize("units", [1, 4, 60, 1024])
@pytest.mark.parametrize("devices", [0, 1, 3])
def test_the_picture_has_bars_for_models_of_any_size(units, devices, tmp_path):
    model = manifest([i % 7 for i in range(units)], [900] + [i % 90 * 20 for i in range(1, units + 1)])
    seconds = {f"board-{d}": [1e-3 * (d + 1)] * units for d in range(devices)}

    model_chart_png(model, seconds, tmp_path / "chart.png")

    picture = PIL.Image.open(tmp_path / "chart.png")
    assert 1000 <= picture.width <= 1800 and 900 <= picture.height <= 1400
    blue = (np.asarray(picture.convert("RGB")) == (0, 114, 178)).all(axis=-1)
    assert blue.sum() > 200


def test_the_tallest_bar_is_the_unit_with_most_arithmetic(tmp_path):
    model_chart_png(manifest([10, 40, 20, 30], [1] * 5), None, tmp_path / "chart.png")

    blue = (np.asarray(PIL.Image.open(tmp_path / "chart.png").convert("RGB")) == (0, 114, 178)).all(axis=-1)
    # First panel: rows 120 to 370; four units between columns 130 and 1190.
    heights = [int(blue[120:372, 130 + 265 * unit + 132].sum()) for unit in range(4)]
    assert sorted(range(4), key=heights.__getitem__) == [0, 2, 3, 1]
    assert heights[1] == pytest.approx(4 * heights[0], abs=8)


def test_a_model_without_any_figure_is_drawn_too(tmp_path):
    model_chart_png(manifest([0], [0, 0]), {"a": [0.0], "b": [math.nan]}, tmp_path / "chart.png")

    assert PIL.Image.open(tmp_path / "chart.png").width > 1000
