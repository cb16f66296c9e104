"""How long a client waits before it connects again, and what it says about it."""

from __future__ import annotations

from edgemesh.transport.attempts import Attempts


def test_the_same_is_said_once_until_a_connection_succeeds() -> None:
    said: list[str] = []
    attempts = Attempts(said.append)

    for text in ("no broker", "no broker", "refused", "refused"):
        attempts.explain(text)
    assert said == ["no broker", "refused"]

    attempts.connected(now=1.0)
    attempts.explain("refused")
    assert said == ["no broker", "refused", "refused"]


def test_three_short_connections_in_a_row_hint_at_a_second_agent_of_that_name() -> None:
    said: list[str] = []
    attempts = Attempts(said.append)

    for now in (0.0, 10.0, 20.0):
        assert not said
        attempts.connected(now)
        attempts.lost(now + 2.0, "agent", "the broker")

    assert len(said) == 1
    assert "the broker ended 3 connections of agent" in said[0]
    assert "another agent has the same name" in said[0]


def test_a_steady_connection_or_a_broker_that_was_away_tells_of_no_second_agent() -> None:
    said: list[str] = []
    attempts = Attempts(said.append)

    for start, end in ((0.0, 5.0), (10.0, 15.0), (20.0, 90.0), (100.0, 105.0), (110.0, 115.0)):
        attempts.connected(start)
        attempts.lost(end, "agent", "the broker")
    attempts.unreachable()
    attempts.connected(200.0)
    attempts.lost(205.0, "agent", "the broker")

    assert not said


def test_who_is_thrown_out_again_and_again_waits_longer_after_each_success() -> None:
    attempts = Attempts(lambda text: None)
    waits = []

    for now in range(8):
        attempts.connected(float(now))
        waits.append(attempts.delay())
        attempts.lost(now + 0.5, "agent", "the broker")

    for wait, step in zip(waits, (0.5, 0.5, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)):
        assert 0.5 * step <= wait <= 1.5 * step


def test_a_broker_that_is_restarted_again_and_again_finds_its_clients_soon() -> None:
    said: list[str] = []
    attempts = Attempts(said.append)

    for start in range(0, 100, 10):
        attempts.connected(float(start))
        attempts.lost(start + 6.0, "agent", "the broker")
        assert attempts.delay() <= 1.5 * 0.5

    assert not said


def test_a_client_whose_id_nobody_else_can_have_always_comes_back_soon() -> None:
    said: list[str] = []
    attempts = Attempts(said.append, unique_id=True)

    for now in range(8):
        attempts.connected(float(now))
        attempts.lost(now + 0.5, "client-5f3a", "the broker")
        attempts.connected(now + 0.9)
        assert attempts.delay() <= 1.5 * 0.5

    assert not said


def test_two_agents_of_one_name_find_out_whichever_of_them_waits_longer() -> None:
    agents = [Attempts(lambda text: None), Attempts(lambda text: None)]
    now, holder = 0.0, 0
    agents[0].connected(now)

    ends = 300.0
    times = 0
    while now < ends:
        now += agents[1 - holder].delay()
        agents[holder].lost(now, "agent", "the broker")
        holder = 1 - holder
        agents[holder].connected(now)
        times += 1

    assert times < 60


def test_two_agents_of_one_name_may_throw_each_other_out_for_ever() -> None:
    attempts = Attempts(lambda text: None)

    for now in range(2000):
        attempts.connected(float(now))
        attempts.lost(now + 0.5, "agent", "the broker")

    assert attempts.delay() <= 1.5 * 15.0


def test_a_broker_that_goes_away_ends_a_long_wait_for_another_agent() -> None:
    attempts = Attempts(lambda text: None)
    attempts.taken_over()

    attempts.unreachable()

    assert attempts.delay() <= 1.5 * 4.0


def test_who_was_told_of_another_client_of_its_name_gives_it_time() -> None:
    attempts = Attempts(lambda text: None)

    attempts.taken_over()

    assert attempts.delay() >= 15.0
