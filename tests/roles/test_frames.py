"""Which frames of a stream are sent, which wait, and which give way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgemesh.roles.frames import Frames

STREAM = ("face", "camera")


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=60))
def test_few_are_under_way_the_newest_waits_and_every_other_gave_way(steps: list[tuple[bool, int]]) -> None:
    """A frame comes, or the one that was sent first ends, while so many may be under way."""
    frames, under_way, held, gone = Frames(), list[str](), list[str](), list[str]()
    for number, (comes, most) in enumerate(steps):
        name, before = f"frame-{number}", len(under_way)
        if comes and frames.may_go(STREAM, most):
            assert not held
            frames.goes(STREAM, name)
            under_way.append(name)
        elif comes:
            older = frames.hold(STREAM, name)
            assert older == (held.pop() if held else None)
            gone += [older] if older else []
            held.append(name)
        elif under_way:
            waits = frames.ended(STREAM, under_way.pop(0))
            assert waits == (held[0] if held else None)
            if frames.take_held(STREAM, most):
                under_way.append(held.pop())
        assert frames.under_way(STREAM) == set(under_way) and len(held) <= 1
        assert len(under_way) <= max(before, most)

    assert len({*under_way, *held, *gone}) == len(under_way) + len(held) + len(gone)


def test_frames_become_fewer_with_the_devices_of_the_route() -> None:
    frames = Frames()
    for number in range(4):
        frames.goes(STREAM, f"frame-{number}")
    frames.hold(STREAM, "waits")

    went = []
    for number in range(4):
        frames.ended(STREAM, f"frame-{number}")
        went.append(frames.take_held(STREAM, 2))

    assert went == [False, False, True, False]


def test_a_frame_that_waits_may_end_by_itself() -> None:
    frames = Frames()
    frames.goes(STREAM, "first")
    frames.hold(STREAM, "second")

    assert frames.ended(STREAM, "second") is None
    assert frames.ended(STREAM, "first") is None
    assert not frames.take_held(STREAM, 1)
    assert frames.may_go(STREAM, 1)


def test_streams_and_models_do_not_wait_for_each_other() -> None:
    frames = Frames()
    frames.goes(STREAM, "first")

    assert frames.may_go(("face", "other"), 1) and frames.may_go(("hand", "camera"), 1)
    assert not frames.may_go(STREAM, 1)
