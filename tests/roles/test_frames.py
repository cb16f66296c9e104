"""Which frames of a stream are sent, which wait, and which give way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgemesh.roles.frames import Frames

STREAM = ("face", "camera")


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4))
def test_few_are_under_way_the_newest_waits_and_every_other_gave_way(steps: list[bool], most: int) -> None:
    """True: a frame comes; False: the one that was sent first ends."""
    frames, under_way, held, gone = Frames(), list[str](), list[str](), list[str]()
    for number, comes in enumerate(steps):
        name = f"frame-{number}"
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
            following = frames.ended(STREAM, under_way.pop(0))
            assert following == (held.pop() if held else None)
            if following is not None:
                frames.goes(STREAM, following)
                under_way.append(following)
        assert len(under_way) <= most and len(held) <= 1
        assert not held or len(under_way) == most

    assert len({*under_way, *held, *gone}) == len(under_way) + len(held) + len(gone)


def test_a_frame_that_waits_may_end_by_itself() -> None:
    frames = Frames()
    frames.goes(STREAM, "first")
    frames.hold(STREAM, "second")

    assert frames.ended(STREAM, "second") is None
    assert frames.ended(STREAM, "first") is None
    assert frames.may_go(STREAM, 1)


def test_streams_and_models_do_not_wait_for_each_other() -> None:
    frames = Frames()
    frames.goes(STREAM, "first")

    assert frames.may_go(("face", "other"), 1) and frames.may_go(("hand", "camera"), 1)
    assert not frames.may_go(STREAM, 1)
