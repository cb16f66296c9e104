"""The queue that lets messages through as slowly as an emulated board's link, in virtual time."""

from __future__ import annotations

import pytest

from edgemesh.device.boards import Link
from edgemesh.device.emulation import LinkShaper
from edgemesh.transport.shaping import ShapedQueue
from tests.transport.virtual_loop import VirtualLoop


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()


@pytest.fixture
def queue(loop: VirtualLoop) -> ShapedQueue:
    """A megabyte per second up, 10 ms away."""
    shaper = LinkShaper(Link(1e6, 0.01, 2e6, 0.01))
    return ShapedQueue(loop, shaper.send_at)  # type: ignore[arg-type]


def test_a_message_takes_its_bytes_at_the_links_rate_and_its_delay(
    loop: VirtualLoop, queue: ShapedQueue
) -> None:
    passed: list[float] = []
    queue.put(500_000, lambda: passed.append(loop.now))

    loop.run(until=10.0)

    assert passed == [pytest.approx(0.51)]


def test_messages_leave_in_order_and_share_the_rate(loop: VirtualLoop, queue: ShapedQueue) -> None:
    passed: list[tuple[str, float]] = []
    for name, size in (("large", 1_000_000), ("small", 10_000), ("middle", 500_000)):
        queue.put(size, lambda name=name: passed.append((name, loop.now)))  # type: ignore[misc]

    loop.run(until=10.0)

    assert [name for name, _ in passed] == ["large", "small", "middle"]
    assert [at for _, at in passed] == pytest.approx([1.01, 1.02, 1.52])


def test_an_idle_link_is_free_at_once(loop: VirtualLoop, queue: ShapedQueue) -> None:
    passed: list[float] = []
    queue.put(1_000_000, lambda: passed.append(loop.now))
    loop.run(until=5.0)

    queue.put(100_000, lambda: passed.append(loop.now))
    loop.run(until=10.0)

    assert passed == pytest.approx([1.01, 5.11])


def test_what_a_call_puts_in_comes_after_what_waits(loop: VirtualLoop, queue: ShapedQueue) -> None:
    passed: list[str] = []

    def first() -> None:
        passed.append("first")
        queue.put(0, lambda: passed.append("from first"))

    queue.put(1000, first)
    queue.put(1000, lambda: passed.append("second"))
    loop.run(until=10.0)

    assert passed == ["first", "second", "from first"]


def test_bulk_is_overtaken_stays_in_order_and_loses_nothing_of_the_rate(
    loop: VirtualLoop, queue: ShapedQueue
) -> None:
    passed: list[tuple[str, float]] = []

    def put(name: str, size: int, *, bulk: bool = False) -> None:
        queue.put(size, lambda: passed.append((name, loop.now)), bulk=bulk)

    for number in range(4):
        put(f"bulk {number}", 500_000, bulk=True)
    put("heartbeat", 1_000)
    loop.run(until=0.7)
    put("state", 1_000)
    loop.run(until=10.0)

    assert [name for name, _ in passed] == ["bulk 0", "heartbeat", "bulk 1", "state", "bulk 2", "bulk 3"]
    assert [at for _, at in passed] == pytest.approx([0.51, 0.511, 1.011, 1.012, 1.512, 2.012])


def test_bulk_begins_a_little_early_so_that_a_late_timer_costs_nothing(loop: VirtualLoop) -> None:
    late = 0.002
    shaper = LinkShaper(Link(1e6, 0.01, 2e6, 0.01))
    call_at = loop.call_at
    loop.call_at = lambda when, call, *arguments: call_at(  # type: ignore[method-assign]
        when + late, call, *arguments
    )
    queue = ShapedQueue(loop, shaper.send_at)  # type: ignore[arg-type]
    passed: list[float] = []
    for _ in range(100):
        queue.put(20_000, lambda: passed.append(loop.now), bulk=True)

    loop.run(until=10.0)

    assert passed[-1] == pytest.approx(2.01 + late)
