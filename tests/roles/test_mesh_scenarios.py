"""Whole meshes in virtual time: what a person would see happen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from edgemesh.protocol.activation import Hop
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.meter import MeterSetting
from edgemesh.roles.actions import Publish, RunUnits
from edgemesh.simulation.links import Link
from edgemesh.simulation.machine import Speed
from edgemesh.simulation.mesh import Mesh
from edgemesh.simulation.models import made_up_model, result_of

FACE, CONTENT = made_up_model()


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """A mesh whose invariants are checked when the test ends."""
    mesh = Mesh()
    yield mesh
    mesh.check()


def home(mesh: Mesh) -> Mesh:
    """A slow, a middling and a fast device, a gateway and a decision node; the model is ready to run."""
    mesh.add_device("pi-zero", Speed(0.100), Link(0.002, 1e6, 1e6))
    mesh.add_device("pi-4b", Speed(0.020))
    mesh.add_device("desktop", Speed(0.005))
    mesh.add_decider("laptop")
    mesh.add_gateway("laptop")
    mesh.run(1.0)
    mesh.add_model(FACE, CONTENT, "desktop")
    mesh.run_until(mesh.ready, within=30.0)
    return mesh


def test_a_mesh_from_nothing_gives_a_first_result(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.submit(client, FACE, "first")
    mesh.run_until(lambda: len(client.ended) == 1, within=5.0)
    assert client.ended[0].code is None
    assert bytes(client.ended[0].section) == result_of(FACE, "first")


def test_a_models_content_spreads_to_every_device(mesh: Mesh) -> None:
    home(mesh)
    mesh.run(10.0)
    for node in mesh.devices.values():
        assert node.disk.whole[FACE.digest] == (FACE, CONTENT), node.name
        assert FACE.digest in node.role.profiler.published, node.name


def test_the_fast_device_is_used_and_the_result_says_by_which_route(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    mesh.submit(client, FACE, "second")
    mesh.run(2.0)
    (ended,) = client.ended
    assert [hop.device for hop in ended.route] == ["desktop"]
    assert [(t.device, t.start, t.stop) for t in ended.timings] == [("desktop", 0, 4)]
    assert ended.predicted is not None and 0.3 * ended.predicted < ended.seconds < 3.0 * ended.predicted


def test_a_device_killed_in_mid_job_costs_the_job_one_more_attempt(mesh: Mesh) -> None:
    home(mesh)
    mesh.run(15.0)  # by then the others hold the model and have measured it
    client = mesh.add_client("laptop-client")
    mesh.run(1.0)
    # So late that no check of its speed finds out before the job is there.
    mesh.devices["desktop"].speed.unit_seconds = 0.5
    mesh.submit(client, FACE, "third")
    mesh.run(0.1)
    mesh.devices["desktop"].kill()
    took = mesh.run_until(lambda: len(client.ended) == 1, within=5.0)
    (ended,) = client.ended
    assert ended.code is None and bytes(ended.section) == result_of(FACE, "third")
    assert ended.attempts == 2 and "desktop" not in {hop.device for hop in ended.route}
    assert took < 1.5, took


def test_a_device_that_dies_silently_is_hedged_before_its_will_comes(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    mesh.devices["desktop"].cut_power()
    mesh.submit(client, FACE, "fourth")
    took = mesh.run_until(lambda: len(client.ended) == 1, within=14.0)
    (ended,) = client.ended
    assert ended.code is None and bytes(ended.section) == result_of(FACE, "fourth")
    assert "desktop" not in {hop.device for hop in ended.route}
    assert took < 2.0, took


def test_a_device_that_dies_silently_gets_no_new_jobs_after_three_missed_heartbeats(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    mesh.devices["desktop"].cut_power()
    mesh.run(9.0)
    mesh.submit(client, FACE, "fifth")
    mesh.run(2.0)
    assert client.ended[0].attempts == 1


def test_an_app_without_edgemesh_gets_its_result_on_the_result_and_the_response_topic(mesh: Mesh) -> None:
    home(mesh)
    app = mesh.add_app("edgemesh/v1/home/result/face", "my/answers")
    mesh.run(1.0)
    app.submit("photo", response_topic="my/answers")
    mesh.run(3.0)
    topics = sorted(received.message.topic for received in app.received)
    assert topics == ["edgemesh/v1/home/result/face", "my/answers"]
    for received in app.received:
        assert received.result.code is None, received.result
        assert received.result.outputs["value"] == result_of(FACE, "photo")[:32].hex()
        mine = received.message.topic == "my/answers"
        assert received.message.correlation == (b"photo" if mine else None)
        assert received.message.content_type == ("application/json" if mine else None)


def test_a_standby_inherits_the_jobs_of_a_killed_gateway_and_each_is_acknowledged_once(mesh: Mesh) -> None:
    home(mesh)
    mesh.devices["desktop"].speed.unit_seconds = 0.4
    second = mesh.add_gateway("pi-4b")
    app = mesh.add_app("edgemesh/v1/home/result/face")
    mesh.run(2.0)
    for text in ("one", "two"):
        app.submit(text)
    mesh.run(0.2)
    first = mesh.holders[1]
    assert first.held is not None and second.held is None
    first.kill()
    mesh.run(20.0)
    assert second.held is not None and second.terms[0] > first.terms[0]
    values = sorted(received.result.outputs["value"] for received in app.received)
    assert values == sorted(result_of(FACE, text)[:32].hex() for text in ("one", "two"))
    assert not mesh.broker.unacknowledged("home-gateway-0")


def test_of_several_standbys_one_takes_the_role_and_nobody_is_thrown_out_twice(mesh: Mesh) -> None:
    home(mesh)
    others = [mesh.add_gateway(name) for name in ("pi-4b", "desktop", "pi-zero")]
    mesh.run(5.0)
    mesh.holders[1].kill()
    mesh.run(60.0)
    holding = [node for node in others if node.held is not None]
    assert len(holding) == 1
    assert sum(len(node.terms) for node in others) == 1


def test_another_decision_node_takes_over_with_a_higher_term(mesh: Mesh) -> None:
    home(mesh)
    second = mesh.add_decider("pi-4b")
    mesh.run(5.0)
    mesh.holders[0].kill()
    mesh.run(30.0)
    assert second.held is not None
    terms = [assignment.term for assignment in mesh.assignments()]
    assert terms[0] == 1 and terms[-1] == second.terms[0] >= 2
    client = mesh.add_client("laptop-client")
    mesh.run(1.0)
    mesh.submit(client, FACE, "sixth")
    mesh.run(3.0)
    assert client.ended[0].code is None


def test_two_streams_at_once_all_end_in_their_own_results(mesh: Mesh) -> None:
    home(mesh)
    clients = [mesh.add_client(name) for name in ("camera-one", "camera-two")]
    mesh.run(15.0)
    for frame in range(40):
        for client in clients:
            mesh.submit(client, FACE, f"{client.name}-{frame}")
        mesh.run(0.05)
    mesh.run(5.0)
    for client in clients:
        assert len(client.ended) == 40
        for ended in client.ended:
            assert ended.code is None, ended
            assert bytes(ended.section) == result_of(FACE, ended.job)
    assert sum(ended.attempts for client in clients for ended in client.ended) <= 90


def test_a_link_that_becomes_slow_makes_the_plan_move(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("pi-4b-camera", origin="pi-4b")
    mesh.run(1.0)
    mesh.submit(client, FACE, "seventh")
    mesh.run(20.0)
    before = mesh.assignments(origin="pi-4b")[-1]
    assert [hop.device for hop in before.route] == ["desktop"]
    mesh.devices["desktop"].link.rate_up = mesh.devices["desktop"].link.rate_down = 20_000.0
    mesh.run(120.0)
    after = mesh.assignments(origin="pi-4b")[-1]
    assert "desktop" not in {hop.device for hop in after.route}
    assert "desktop" in after.reason and "link" in after.reason, after.reason


def test_a_latest_stream_drops_old_frames_and_keeps_up(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("camera")
    mesh.run(15.0)
    mesh.devices["desktop"].speed.unit_seconds = 0.1
    for frame in range(50):
        mesh.submit(client, FACE, f"frame-{frame}", stream="camera")
        mesh.run(0.04)
    mesh.run(10.0)
    codes = {ended.code for ended in client.ended}
    assert len(client.ended) == 50 and codes == {None, "superseded"}
    shown = [ended for ended in client.ended if ended.code is None]
    assert max(ended.seconds for ended in shown) < 2.5
    assert any(ended.job == "frame-49" for ended in shown)


def test_a_given_route_is_taken_as_it_is(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    route = (Hop("pi-zero", 1), Hop("desktop", 3), Hop("pi-4b", 4))
    mesh.submit(client, FACE, "eighth", route=route)
    mesh.run(5.0)
    (ended,) = client.ended
    assert ended.code is None and bytes(ended.section) == result_of(FACE, "eighth")
    assert [(t.device, t.start, t.stop) for t in ended.timings] == [
        ("pi-zero", 0, 1),
        ("desktop", 1, 3),
        ("pi-4b", 3, 4),
    ]


def test_a_given_route_over_a_dead_device_ends_in_an_error_and_not_elsewhere(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    mesh.devices["desktop"].speed.unit_seconds = 1.0
    mesh.submit(client, FACE, "ninth", route=(Hop("desktop", 4),))
    mesh.run(0.5)
    mesh.devices["desktop"].kill()
    mesh.run(1.0)
    assert [ended.code for ended in client.ended] == ["no-route"]


def test_a_device_serves_itself_while_the_broker_is_away(mesh: Mesh) -> None:
    home(mesh)
    mesh.run(15.0)
    pi = mesh.devices["pi-4b"]
    mesh.broker.restart(wiped=False, pause=60.0)
    mesh.run(1.0)
    mesh.submit(pi.shell, FACE, "tenth")
    mesh.run(2.0)
    (ended,) = pi.shell.ended
    assert ended.code is None and bytes(ended.section) == result_of(FACE, "tenth")
    assert [hop.device for hop in ended.route] == ["pi-4b"]


def test_a_job_under_way_when_the_broker_goes_is_run_locally_at_once(mesh: Mesh) -> None:
    home(mesh)
    pi = mesh.devices["pi-4b"]
    mesh.submit(pi.shell, FACE, "warm-up")
    mesh.run(20.0)
    mesh.devices["desktop"].speed.unit_seconds = 0.5
    mesh.submit(pi.shell, FACE, "eleventh")
    mesh.run(0.1)
    mesh.broker.restart(wiped=False, pause=60.0)
    took = mesh.run_until(lambda: len(pi.shell.ended) == 2, within=3.0)
    assert took < 1.0 and [hop.device for hop in pi.shell.ended[1].route] == ["pi-4b"]


@pytest.mark.parametrize("wiped", [False, True])
def test_a_broker_restart_heals_even_when_it_lost_everything(mesh: Mesh, wiped: bool) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    mesh.devices["desktop"].speed.unit_seconds = 0.5
    mesh.submit(client, FACE, "twelfth")
    mesh.run(0.2)
    mesh.broker.restart(wiped=wiped)
    mesh.run(60.0)
    assert [ended.code for ended in client.ended] == [None]
    # Whoever comes now finds the model and a plan, and an app finds the gateway.
    newcomer, app = mesh.add_client("newcomer"), mesh.add_app("edgemesh/v1/home/result/face")
    mesh.run(1.0)
    mesh.submit(newcomer, FACE, "thirteenth")
    app.submit("fourteenth")
    mesh.run(5.0)
    assert [ended.code for ended in newcomer.ended] == [None]
    assert [received.result.code for received in app.received] == [None]


def test_an_hour_of_calm_brings_a_few_assignments_at_most(mesh: Mesh) -> None:
    home(mesh)
    for node in mesh.devices.values():
        node.speed.jitter = 0.05
    client = mesh.add_client("laptop-client")
    mesh.run(60.0)
    before = len(mesh.assignments())
    for minute in range(60):
        mesh.submit(client, FACE, f"minute-{minute}")
        mesh.run(60.0)
    assert [ended.code for ended in client.ended] == [None] * 60
    assert len(mesh.assignments()) - before <= 6


def test_a_job_of_a_model_nobody_holds_ends_in_an_error_by_its_deadline(mesh: Mesh) -> None:
    for name in ("pi-4b", "desktop"):
        mesh.add_device(name)
    mesh.add_decider("laptop")
    client = mesh.add_client("laptop-client")
    mesh.run(2.0)
    mesh.devices["desktop"].shell.carry_out([mesh.manifest_message(FACE)])
    mesh.run(5.0)
    mesh.submit(client, FACE, "lost", left=12.0)
    took = mesh.run_until(lambda: len(client.ended) == 1, within=12.001)
    assert client.ended[0].code in ("no-route", "deadline") and took <= 12.0
    assert "hold the model" in (client.ended[0].text or "")


def test_a_model_that_is_removed_leaves_no_assignment_and_no_content(mesh: Mesh) -> None:
    home(mesh)
    mesh.run(15.0)
    topic = mesh.topics.build("model", model="face")
    mesh.devices["pi-4b"].shell.carry_out([Publish(topic, b"", qos=1, retain=True)])
    mesh.run(30.0)
    assert not [topic for topic in mesh.broker.retained if "/assignment/" in topic or "/model/" in topic]
    assert not any(node.disk.whole for node in mesh.devices.values())
    # Added again, it is used again.
    mesh.add_model(FACE, CONTENT, "desktop")
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    mesh.submit(client, FACE, "again")
    mesh.run(5.0)
    assert [ended.code for ended in client.ended] == [None]


def test_a_device_that_restarts_is_used_again_from_its_disk(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    desktop = mesh.devices["desktop"]
    desktop.kill()
    mesh.run(20.0)
    desktop.restart()
    mesh.run(20.0)
    mesh.submit(client, FACE, "back")
    mesh.run(3.0)
    assert client.ended[0].code is None and client.ended[0].attempts == 1
    assert [hop.device for hop in client.ended[0].route] == ["desktop"]


def test_an_executor_that_dies_costs_a_retry_and_no_job(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    mesh.devices["desktop"].speed.unit_seconds = 0.1
    mesh.submit(client, FACE, "survivor")
    mesh.run(0.2)
    mesh.devices["desktop"].executor.kill()
    mesh.run(5.0)
    assert [ended.code for ended in client.ended] == [None] and client.ended[0].attempts == 2


def test_an_input_that_kills_executors_does_not_go_round_the_whole_mesh(mesh: Mesh) -> None:
    home(mesh)
    for number in range(5):
        mesh.add_device(f"spare-{number}")
    client = mesh.add_client("laptop-client")
    mesh.run(30.0)
    for node in mesh.devices.values():
        node.executor.deadly = lambda a: isinstance(a, RunUnits) and a.run.startswith("poison")
    mesh.submit(client, FACE, "poison")
    mesh.run(30.0)
    assert [ended.code for ended in client.ended] == ["run-failed"]
    killed = sum(len(node.executor.runs) for node in mesh.devices.values())
    assert killed <= 4


def test_a_burst_on_a_mesh_that_has_become_slow_is_not_multiplied_by_hedges(mesh: Mesh) -> None:
    home(mesh)
    client = mesh.add_client("laptop-client")
    mesh.run(15.0)
    for node in mesh.devices.values():
        node.speed.unit_seconds *= 8.0
    for number in range(60):
        mesh.submit(client, FACE, f"burst-{number}", left=60.0)
    mesh.run(61.0)
    assert len(client.ended) == 60
    runs = sum(len(node.executor.runs) for node in mesh.devices.values())
    assert runs <= 60 + 60 / 8 + 4 + 1, runs


def test_content_over_a_slow_link_is_fetched_with_little_waste(mesh: Mesh) -> None:
    large, content = made_up_model(content_bytes=2_000_000, chunk_bytes=200_000)
    mesh.add_device("desktop")
    slow = mesh.add_device("pi-zero", link=Link(0.01, 30_000.0, 30_000.0))
    mesh.run(1.0)
    mesh.add_model(large, content, "desktop")
    took = mesh.run_until(lambda: large.digest in slow.disk.whole, within=300.0)
    assert took < 1.5 * len(content) / 30_000.0


def test_a_holder_that_dies_while_it_serves_is_replaced_by_another(mesh: Mesh) -> None:
    large, content = made_up_model(content_bytes=2_000_000, chunk_bytes=100_000)
    for name in ("desktop", "pi-4b"):
        mesh.add_device(name)
        mesh.devices[name].disk.put(large, content)
    mesh.add_device("pi-zero", link=Link(0.01, 500_000.0, 500_000.0))
    mesh.run(1.0)
    mesh.devices["desktop"].shell.carry_out([mesh.manifest_message(large)])
    mesh.run(2.0)
    mesh.devices["desktop"].cut_power()
    mesh.run_until(lambda: large.digest in mesh.devices["pi-zero"].disk.whole, within=60.0)


def test_photographs_that_fill_the_gateways_link_for_seconds_do_not_make_idle_devices_busy() -> None:
    """Answers wait behind what comes in: that silence is not the devices'."""
    mesh = Mesh()
    mesh.add_device("desktop", Speed(0.002))
    mesh.add_device("pi-4b", Speed(0.01))
    mesh.add_gateway("laptop", Link(0.002, 2.5e6, 2.5e6))
    mesh.add_decider("server")
    mesh.run(1.0)
    mesh.add_model(FACE, CONTENT, "desktop")
    mesh.run_until(mesh.ready, within=30.0)
    app = mesh.add_app("edgemesh/v1/home/result/face")
    mesh.run(5.0)

    for number in range(40):
        app.submit(f"photo {number}", nbytes=500_000)
    mesh.run(20.0)

    assert [received.result.code for received in app.received] == [None] * 40


@pytest.mark.parametrize("older", [False, True])
def test_a_manifest_that_was_replaced_does_not_come_back_with_a_broker_that_forgot(older: bool) -> None:
    """Were it believed, all devices would delete the content that took its place."""
    mesh = home(Mesh())
    mesh.run(20.0)
    mesh.broker.save()
    away = mesh.devices["pi-zero"].shell.connection
    assert away is not None
    away.cut()
    mesh.run(30.0)
    new, content = made_up_model(version="2")
    mesh.add_model(replace(new, revision=2), content, "desktop")
    mesh.run(30.0)

    mesh.broker.restart(wiped=not older, older=older, pause=1.0)
    mesh.run(0.5)
    away.mend()
    mesh.run(60.0)

    retained = decode_json(Manifest, mesh.broker.retained["edgemesh/v1/home/model/face"].payload)
    assert retained.digest == new.digest
    assert all(set(node.role.content.held) == {new.digest} for node in mesh.devices.values())


def retained(mesh: Mesh, *kinds: str) -> dict[str, bytes]:
    """What the broker retains of these kinds, by topic."""
    messages = mesh.broker.retained.items()
    return {t: bytes(m.payload) for t, m in messages if mesh.topics.parse(t).kind in kinds}


def set_plug(mesh: Mesh, payload: bytes) -> None:
    """``edgemesh device power pi-4b --plug ...``, or ``--none``, from the machine of another device."""
    topic = mesh.topics.build("meter", device="pi-4b")
    mesh.devices["desktop"].shell.carry_out([Publish(topic, payload, qos=1, retain=True)])


def test_a_broker_that_is_stopped_and_forgets_hears_of_models_and_plugs_again(mesh: Mesh) -> None:
    """It publishes the Wills before it goes: what devices answer to theirs must not pass for its memory."""
    home(mesh)
    set_plug(mesh, encode_json(MeterSetting("zigbee2mqtt/desk")))
    mesh.run(20.0)
    before = retained(mesh, "model", "meter")

    mesh.broker.stop(wiped=True, pause=1.0)
    mesh.run(30.0)

    assert len(before) == 2 and retained(mesh, "model", "meter") == before


@pytest.mark.parametrize("wiped", [True, False])
def test_the_plug_of_a_device_outlives_the_brokers_store(mesh: Mesh, wiped: bool) -> None:
    home(mesh)
    plug = MeterSetting("zigbee2mqtt/desk")
    set_plug(mesh, encode_json(plug))
    mesh.run(5.0)

    for _ in range(2):  # also where a broker was told it by the device itself
        mesh.broker.restart(wiped=wiped, pause=1.0)
        mesh.run(30.0)

        assert retained(mesh, "meter") == {mesh.topics.build("meter", device="pi-4b"): encode_json(plug)}
        assert mesh.devices["pi-4b"].role.power.plug.setting == plug


def test_a_plug_that_was_taken_away_while_its_device_was_cut_off_stays_so(mesh: Mesh) -> None:
    home(mesh)
    set_plug(mesh, encode_json(MeterSetting("zigbee2mqtt/desk")))
    mesh.run(5.0)
    away = mesh.devices["pi-4b"].shell.connection
    assert away is not None
    away.cut()
    mesh.run(30.0)
    set_plug(mesh, b"")
    mesh.run(5.0)

    away.mend()
    mesh.run(60.0)

    assert mesh.devices["pi-4b"].role.power.plug.setting is None
    assert not retained(mesh, "meter")
