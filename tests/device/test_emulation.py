"""Arithmetic of emulated boards and of their links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.device.boards import Board, Figure, Link, load_board
from edgemesh.device.emulation import LinkShaper, SerialLink, arithmetic_dtype, emulated_board
from edgemesh.errors import SettingsError
from edgemesh.protocol.manifest import DType, TensorSpec, Unit


def board(memory: int = 1 << 30, **speeds: float) -> Board:
    figures = {f"speed.{key.replace('_', '.')}": Figure(value, "test") for key, value in speeds.items()}
    figures["hardware.memory_bytes"] = Figure(memory, "test")
    return Board("slow-board", "for tests", figures)


def units(*macs: int, weight_bytes: int = 0) -> list[Unit]:
    return [Unit(f"u{i}", 1, count, weight_bytes, 0) for i, count in enumerate(macs)]


def cut(dtype: DType, elements: int = 100) -> tuple[TensorSpec, ...]:
    return (TensorSpec("t", dtype, (elements,)),)


def test_a_model_takes_the_board_its_macs_over_the_boards_speed() -> None:
    emulated = emulated_board(
        board(tflite_float32=1e9), units(60_000_000, 40_000_000), [0.006, 0.004], "tflite", "float32"
    )

    assert sum(emulated.seconds) == pytest.approx(0.1)
    assert emulated.factor == pytest.approx(10.0)
    assert emulated.warnings == ()


@given(st.floats(1.0, 1000.0))
def test_a_slower_emulation_keeps_the_proportion_between_boards(slower: float) -> None:
    def taken(speed: float, times: float) -> float:
        emulated = emulated_board(
            board(tflite_float32=speed), units(10**8), [0.01], "tflite", "float32", slower=times
        )
        return sum(emulated.seconds)

    assert taken(1e9, slower) == pytest.approx(slower * taken(1e9, 1.0))
    assert taken(1e9, slower) / taken(5e9, slower) == pytest.approx(5.0)


def test_a_board_faster_than_this_machine_is_within_reach_once_all_are_slower() -> None:
    fast = board(tflite_float32=2e10)

    as_it_is = emulated_board(fast, units(10**8), [0.01], "tflite", "float32")
    slower = emulated_board(fast, units(10**8), [0.01], "tflite", "float32", slower=4.0)

    assert as_it_is.warnings and as_it_is.factor == 1.0
    assert not slower.warnings
    assert sum(slower.seconds) == pytest.approx(4.0 * 0.005)


def test_a_unit_without_macs_keeps_its_share_of_the_time() -> None:
    emulated = emulated_board(
        board(tflite_float32=1e9), units(100_000_000, 0), [0.008, 0.002], "tflite", "float32"
    )

    assert emulated.seconds == pytest.approx((0.08, 0.02))


def test_a_board_cannot_be_faster_than_this_machine_and_says_so() -> None:
    emulated = emulated_board(board(tflite_float32=1e12), units(100_000_000), [0.01], "tflite", "float32")

    assert emulated.factor == 1.0
    assert emulated.seconds == (0.01,)
    assert len(emulated.warnings) == 1 and "slow-board would take 0.1 ms" in emulated.warnings[0]


def test_the_whole_in_one_run_decides_and_not_the_sum_of_its_units() -> None:
    # Each unit alone pays the interpreter's start, so the sum is twice the whole here.
    emulated = emulated_board(
        board(tflite_float32=1e9), units(50_000_000, 50_000_000), [0.01, 0.01], "tflite", "float32",
        whole_seconds=0.01,
    )  # fmt: skip

    assert emulated.factor == pytest.approx(10.0)
    assert emulated.seconds == pytest.approx((0.05, 0.05))


def test_runtime_and_dtype_choose_the_speed() -> None:
    slow = board(tflite_float32=1e9, tflite_int8=4e9, torch_float32=5e8)
    seconds = {
        key: sum(emulated_board(slow, units(10**9), [0.01], *key).seconds)
        for key in [("tflite", "float32"), ("tflite", "int8"), ("torch", "float32")]
    }

    assert seconds == pytest.approx(
        {("tflite", "float32"): 1.0, ("tflite", "int8"): 0.25, ("torch", "float32"): 2.0}
    )


def test_a_dtype_without_speed_uses_that_of_float32_and_says_so() -> None:
    emulated = emulated_board(board(torch_float32=1e9), units(10**9), [0.01], "torch", "int8")

    assert sum(emulated.seconds) == pytest.approx(1.0)
    assert "no speed for torch with int8" in emulated.warnings[0]


def test_a_runtime_without_speed_is_an_error_that_names_the_key_to_add() -> None:
    with pytest.raises(SettingsError, match=r"slow-board.*torch.*add speed\.torch\.float32"):
        emulated_board(board(tflite_float32=1e9), units(10**9), [0.01], "torch", "float32")


def test_without_macs_the_ratio_of_the_boards_is_the_factor() -> None:
    slow, here = board(tflite_float32=1e9), board(tflite_float32=8e9)

    known = emulated_board(slow, units(0, 0), [0.01, 0.03], "tflite", "float32", here=here)
    unknown = emulated_board(slow, units(0, 0), [0.01, 0.03], "tflite", "float32")

    assert known.seconds == pytest.approx((0.08, 0.24))
    assert unknown.seconds == pytest.approx((0.01, 0.03))
    assert "no multiply-accumulates" in unknown.warnings[0]


def test_weights_that_the_board_could_not_hold_are_a_warning() -> None:
    small = board(memory=10**6, tflite_float32=1e9)

    emulated = emulated_board(small, units(10**9, weight_bytes=2 * 10**6), [0.01], "tflite", "float32")

    assert "weights of this model have 2 MB" in emulated.warnings[0]


@given(
    st.lists(st.tuples(st.integers(0, 10**10), st.floats(1e-6, 1.0)), min_size=1, max_size=20),
    st.floats(1e6, 1e13),
)
def test_an_emulated_run_never_ends_before_the_real_one(model: list[tuple[int, float]], speed: float) -> None:
    measured = [seconds for _, seconds in model]
    emulated = emulated_board(
        board(tflite_float32=speed), units(*(macs for macs, _ in model)), measured, "tflite", "float32"
    )

    assert emulated.factor >= 1.0
    assert all(mine >= real * (1 - 1e-9) for mine, real in zip(emulated.seconds, measured))
    macs = sum(count for count, _ in model)
    assert sum(emulated.seconds) == pytest.approx(max(macs / speed, sum(measured)))


def test_the_inner_cuts_tell_whether_a_model_computes_with_8_bits() -> None:
    quantised = [cut("float32", 1000), cut("int8"), cut("uint8"), cut("float32")]

    assert arithmetic_dtype(quantised) == "int8"
    assert arithmetic_dtype([cut("uint8"), cut("float32"), cut("float16"), cut("uint8")]) == "float32"
    assert arithmetic_dtype([cut("int8"), cut("int8")]) == "int8"


def test_a_message_takes_its_bytes_over_the_rate_and_then_the_delay() -> None:
    shaper = LinkShaper(Link(1000.0, 0.5, 2000.0, 0.25))

    assert shaper.send_at(10.0, 100) == pytest.approx(10.6)
    assert shaper.receive_at(10.0, 100) == pytest.approx(10.3)


def test_messages_queue_behind_each_other_but_not_behind_the_other_direction() -> None:
    shaper = LinkShaper(Link(1000.0, 0.5, 1000.0, 0.0))

    first, second = shaper.send_at(0.0, 1000), shaper.send_at(0.1, 1000)
    other_way = shaper.receive_at(0.1, 100)
    later = shaper.send_at(9.0, 1000)

    # The delay is under way, not on the link: the second message starts at 1.0, not at 1.5.
    assert (first, second, later) == pytest.approx((1.5, 2.5, 10.5))
    assert other_way == pytest.approx(0.2)


def test_a_shipped_board_shapes_its_link() -> None:
    link = load_board("pi-3b-plus").link

    assert link is not None
    assert LinkShaper(link).send_at(0.0, 600_000) == pytest.approx(600_000 / (24.5e6 / 8) + 0.0015)


@given(
    st.lists(st.tuples(st.floats(0.0, 10.0), st.integers(0, 10**6)), min_size=1, max_size=30),
    st.floats(1e3, 1e8),
    st.floats(0.0, 1.0),
)
def test_no_interval_carries_more_bytes_than_the_rate_allows(
    messages: list[tuple[float, int]], rate: float, delay: float
) -> None:
    link = SerialLink(rate, delay)
    now, handed_over, arrived = 0.0, [], []
    for pause, nbytes in messages:
        now += pause
        handed_over.append(now)
        arrived.append(link.deliver_at(now, nbytes))

    # Between the arrivals of any two messages lies at least the time that the later bytes take.
    sizes = [nbytes for _, nbytes in messages]
    for i in range(len(arrived)):
        assert arrived[i] >= handed_over[i] + sizes[i] / rate + delay - 1e-6
        for j in range(i + 1, len(arrived)):
            assert sum(sizes[i + 1 : j + 1]) <= rate * (arrived[j] - arrived[i] + 1e-6)
