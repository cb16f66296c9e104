"""``tools/testbed``: links and boards are those that were asked for, and nothing stays behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import testbeds.bed
import testbeds.player
from benchmarks.report import NotMeasurableError
from hypothesis import given
from hypothesis import strategies as st
from testbeds.bed import MESH, Bed, DeviceSpec
from testbeds.checking import (
    HEADROOM,
    TOLERANCE,
    Check,
    board_seconds,
    check_table,
    raised_time_scale,
    time_scale,
)
from testbeds.leftovers import remove_leftovers
from testbeds.network import why_not
from testbeds.relay import HeldBack, Relay, Way

from edgemesh.device.boards import load_board
from edgemesh.node.client import Client
from edgemesh.node.model_import import Treatment, manifest_of
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.manifest import Manifest
from edgemesh.runtime.made_up import made_up_inputs
from edgemesh.simulation.scenario_file import load_scenario
from tests.tflite_models import ModelBuilder

ROOT = Path(__file__).resolve().parents[2]

_REASON = why_not()
needs_namespaces = pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
_SECONDS = st.floats(0.0, 10.0)


def dense(folder: Path) -> tuple[Path, Manifest]:
    """Two dense layers of 67 million multiply-accumulates each: some milliseconds on any machine."""
    builder = ModelBuilder()
    generator = np.random.default_rng(1)
    tensors = [builder.tensor((64, 1024)) for _ in range(3)]
    for before, after in pairwise(tensors):
        weights = builder.tensor(data=generator.standard_normal((1024, 1024)) / 32)
        options = ("FullyConnectedOptions", {})
        builder.operator("FULLY_CONNECTED", [before, weights], [after], options)
    builder.ends([tensors[0]], [tensors[-1]])
    path = folder / "dense.tflite"
    path.write_bytes(builder.content())
    return path, manifest_of(path, "dense", "tflite", Treatment())


@given(st.lists(st.tuples(_SECONDS, st.integers(1, 10**6)), min_size=1), st.floats(1e3, 1e9), _SECONDS)
def test_no_bytes_leave_before_rate_and_delay_allow_it(
    sent: list[tuple[float, int]], rate: float, delay: float
) -> None:
    way = Way(rate, delay)
    sent.sort()

    due = [way.due(at, nbytes) for at, nbytes in sent]

    assert due == sorted(due)
    for (at, nbytes), when in zip(sent, due):
        assert when >= at + nbytes / rate + delay - 1e-6


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_jitter_never_makes_a_delay_negative(delay: float, jitter: float) -> None:
    way = Way(None, delay, jitter)

    assert all(way.due(1.0, 1) >= 1.0 for _ in range(20))


@given(st.lists(st.integers(1, 10**6), min_size=1), _SECONDS)
def test_a_delay_alone_does_not_limit_the_rate(sizes: list[int], delay: float) -> None:
    way = Way(None, delay)

    due = [way.due(1.0, nbytes) for nbytes in sizes]

    assert due == [1.0 + delay] * len(sizes)
    assert way.nbytes == sum(sizes)


def test_bytes_cross_the_relay_whole_in_order_and_not_before_their_time() -> None:
    content = os.urandom(3 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(0, server.getsockname())
        relay.set([None, 0.05, 0.0], [None, 0.05, 0.0])
        threading.Thread(target=relay.serve, daemon=True).start()
        with socket.create_connection(("127.0.0.1", relay.port)) as near:
            far, _ = server.accept()
            with far:
                began = time.monotonic()
                threading.Thread(target=near.sendall, args=(content,), daemon=True).start()
                received = far.recv(1)
                first = time.monotonic()
                while len(received) < len(content):
                    received += far.recv(1 << 20)
                near.shutdown(socket.SHUT_WR)
                end = far.recv(1)
        relay.close()

    assert received == content
    assert end == b""
    assert relay.up.nbytes == len(content)
    assert first >= began + 0.05


def test_what_is_held_back_leaves_at_its_stamp_at_the_earliest() -> None:
    held = HeldBack(Way(None, 0.02))
    stamps = []
    for number in range(20):
        stamps.append(time.monotonic())
        held.put(bytes([number]))

    left = [(held.take(), time.monotonic()) for _ in stamps]

    assert [data for data, _ in left] == [bytes([number]) for number in range(20)]
    assert all(at >= stamp + 0.02 for (_, at), stamp in zip(left, stamps))


def test_a_board_holds_up_to_the_tolerance_and_not_beyond() -> None:
    near = Check("a", "pi-4b", "m", 1.0, 1.0 + TOLERANCE - 0.01)
    far = Check("a", "pi-4b", "m", 1.0, 1.0 + TOLERANCE + 0.01)
    fast = Check("a", "pi-4b", "m", 1.0, 1.0 - TOLERANCE - 0.01)

    assert near.holds
    assert not far.holds
    assert not fast.holds
    assert "NO" in check_table([far])


@given(st.floats(1e-4, 10.0), st.lists(st.floats(1e-4, 10.0), min_size=1))
def test_the_time_scale_brings_the_fastest_board_within_reach(here: float, wanted: list[float]) -> None:
    scale = time_scale(here, wanted)

    assert scale >= 1.0
    assert scale * min(wanted) >= HEADROOM * here * (1 - 1e-9)
    assert scale == 1.0 or scale * min(wanted) <= HEADROOM * here * (1 + 1e-9)


@given(st.floats(1.0, 10.0), st.lists(st.tuples(st.floats(1e-4, 10.0), st.floats(1e-4, 10.0))))
def test_profiles_longer_than_the_scale_allows_raise_it_and_no_others(
    scale: float, boards: list[tuple[float, float]]
) -> None:
    raised = raised_time_scale(scale, boards)

    late = any(profiled > scale * real * 1.005 for profiled, real in boards)
    assert (raised > scale) == late
    assert raised_time_scale(raised, boards) == raised


def test_a_board_that_was_profiled_too_slow_makes_everything_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testbeds.bed, "seconds_here", lambda *given: 1e-6)
    path, manifest = dense(tmp_path)
    said: list[str] = []
    boards = {"desk": load_board("desktop"), "pi": load_board("pi-4b")}
    devices = [DeviceSpec(name, board.name) for name, board in boards.items()]

    with Bed(devices, folder=tmp_path / "kept", loopback=True, log=said.append) as bed:
        bed.add_model(manifest, path)
        believed = bed.time_scale
        bed.wait_profiled(120.0)
        profiled = {device: sum(profile.seconds) for (device, _), profile in bed.observer.profiles.items()}

    assert believed == 1.0 < bed.time_scale
    for name, board in boards.items():
        seconds = board_seconds(board, manifest)
        assert seconds is not None
        assert profiled[name] == pytest.approx(bed.time_scale * seconds)
    assert any("slower when the boards were profiled" in line for line in said)


@pytest.fixture(scope="module", params=["loopback", pytest.param("namespaces", marks=needs_namespaces)])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("bed")
    path, manifest = dense(folder)
    devices = [
        DeviceSpec("camera", "pi-zero-2w"),
        DeviceSpec("pi", "pi-4b", rate_up=2e6, rate_down=1e6, delay=0.01),
    ]
    loopback = request.param == "loopback"
    with Bed(devices, folder=folder / "kept", loopback=loopback, log=lambda text: None) as bed:
        bed.add_model(manifest, path)
        bed.wait_profiled(120.0)
        yield SimpleNamespace(bed=bed, manifest=manifest, loopback=loopback)


def test_boards_keep_the_proportion_of_their_speeds(running: SimpleNamespace) -> None:
    checks = {check.device: check for check in running.bed.check()}

    # Below, it would be an emulation that does not wait; above, this machine may be busy.
    assert all(check.ratio >= 1.0 - TOLERANCE for check in checks.values())
    wanted = {device: sum(p.seconds) for (device, _), p in running.bed.observer.profiles.items()}
    for device, check in checks.items():
        assert wanted[device] == pytest.approx(check.board_seconds, rel=1e-6)


def test_a_job_crosses_the_links_of_its_route_and_is_counted_there(running: SimpleNamespace) -> None:
    bed, manifest = running.bed, running.manifest
    before = bed.link_bytes()["pi"]

    with Client(mesh=MESH, origin="camera", device_directory=bed.directory("camera")) as mesh:
        given_input = made_up_inputs(manifest.boundaries[0])
        result = mesh.infer("dense", given_input, route=[Hop("pi", manifest.unit_count)])

    sent, received = (b - a for a, b in zip(before, bed.link_bytes()["pi"]))
    assert [hop.device for hop in result.route] == ["pi"]
    assert sent >= 64 * 1024 * 4
    assert received >= 64 * 1024 * 4


def test_the_decision_node_comes_and_goes_and_its_plan_stays(running: SimpleNamespace) -> None:
    bed = running.bed

    bed.decision(True)
    came = bed.observer.wait(lambda: ("dense", "app") in bed.observer.assignments, 30.0)
    bed.decision(False)

    assert came
    assert bed.observer.assignments["dense", "app"].devices <= {"camera", "pi"}


def test_a_device_leaves_at_once_and_comes_back_with_its_profile(running: SimpleNamespace) -> None:
    bed = running.bed

    bed.leave("pi")
    left = bed.observer.wait(lambda: bed.observer.states["pi"] == "offline", 30.0)
    bed.come_back("pi")
    bed.wait_profiled(30.0)

    assert left
    assert bed.observer.states["pi"] == "online"


def test_a_program_reaches_the_broker_by_the_url_of_its_device(running: SimpleNamespace) -> None:
    port = running.bed.broker_url("pi").rpartition(":")[2]
    code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 10); print('in')"

    program = running.bed.popen([sys.executable, "-c", code], "pi")

    assert program.communicate(timeout=30)[0] == b"in\n"


@needs_namespaces
def test_the_kernel_limits_both_directions_and_the_host_keeps_its_interfaces(tmp_path: Path) -> None:
    interfaces = sorted(os.listdir("/sys/class/net"))
    namespaces = _own_namespaces()

    with Bed([DeviceSpec("pi", "pi-4b")], folder=tmp_path, log=lambda text: None) as bed:
        bed.set_link("pi", rate_up=1e6, rate_down=5e5)
        shapes = []
        for name, device in (("pi", "link"), (None, "to1")):
            command = ["tc", "qdisc", "show", "dev", device]
            shapes.append(bed.popen(command, name).communicate(timeout=10)[0].decode())
        during = sorted(os.listdir("/sys/class/net"))

    kilobits = [int(match[1]) for shape in shapes if (match := re.search(r"tbf .*rate (\d+)Kbit", shape))]
    # With the headers that TCP's payload needs.
    assert kilobits == [pytest.approx(8000 * 1514 / 1448, abs=1), pytest.approx(4000 * 1514 / 1448, abs=1)]
    assert during == interfaces
    assert _own_namespaces() == namespaces


def _own_namespaces() -> list[Path]:
    return sorted(Path("/run/netns").glob(f"emtb{os.getpid()}-*"))


def test_a_command_whose_starter_is_gone_already_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    nobody = str(2**22 + 1)  # above the largest process id
    bound = [sys.executable, "-m", "testbeds.bound", nobody, str(signal.SIGTERM.value), "touch", str(mark)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools")])}

    status = subprocess.run(bound, env=environment, timeout=60, check=False).returncode

    assert status == -signal.SIGTERM
    assert not mark.exists()


_FOREVER = """
import signal
import sys
from pathlib import Path
from testbeds.bed import Bed, DeviceSpec
# A program that a shell starts in the background ignores it, and hands that on to its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Bed([DeviceSpec("pi", "pi-4b")], folder=Path(sys.argv[1]), loopback=sys.argv[2] == "loopback") as bed:
    bed.wait_profiled(60.0)
    child = bed.popen([sys.executable, "-c", "import time; time.sleep(600)"], "pi")
    print(child.pid, flush=True)
    child.wait()
"""


@pytest.mark.parametrize("kind", ["loopback", pytest.param("namespaces", marks=needs_namespaces)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_a_bed_outlives_its_program(kind: str, number: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools")])}
    command = [sys.executable, "-c", _FOREVER, str(tmp_path), kind]
    bed = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert bed.stdout is not None
    # Lines before it may say what an earlier killed bed had left.
    child = next(int(line) for line in bed.stdout if line.strip().isdigit())

    bed.send_signal(number)
    bed.communicate(timeout=30)
    if number is signal.SIGKILL:
        _until_gone(child)
        remove_leftovers()

    _until_gone(child)
    assert _of(str(tmp_path)) == []
    assert not list(Path("/run/netns").glob(f"emtb{bed.pid}-*"))


_KILLED = """
import os
import signal
import sys
import testbeds.command
testbeds.command.Bed = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["testbed", "calm", "--loopback"]
testbeds.command.main()
"""


def test_the_folder_of_a_command_that_was_killed_is_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: its name said nothing of its maker, and it stayed for ever."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", _KILLED], env=environment, check=False, timeout=60)
    left = list(tmp_path.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    assert killed.returncode == -signal.SIGKILL and len(left) == 1
    assert left[0].name in remove_leftovers()
    assert not left[0].exists()


def _until_gone(pid: int) -> None:
    ends = time.monotonic() + 20.0
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < ends, f"process {pid} still runs"
        time.sleep(0.05)


def _of(folder: str) -> list[str]:
    """Command lines of processes that still use the folder, given some seconds to end."""
    ends = time.monotonic() + 15.0
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if f"EDGEMESH_HOME={folder}".encode() in environment:
                found.append(words.replace(b"\0", b" ").decode())
        if not found or time.monotonic() > ends:
            return found
        time.sleep(0.1)


@pytest.mark.parametrize(("told", "status"), [(2, 1), (2, 0), (20, 1)])
def test_a_stream_whose_program_dies_is_not_played(
    told: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = load_scenario("calm")
    (stream,) = scenario.streams
    scenario = replace(scenario, streams=(replace(stream, per_second=100.0, busy=None),))
    bed = MagicMock(time_scale=1.0)
    bed.observer.assignments = {("alexnet", stream.origin): None}
    code = f"""print('{{"at": 0.0, "seconds": 0.1}}\\n' * {told}, end=''); raise SystemExit({status})"""
    bed.popen.side_effect = lambda command, device: subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE
    )
    monkeypatch.setattr(testbeds.player, "Client", MagicMock())
    monkeypatch.setattr(testbeds.player, "made_up_inputs", MagicMock())
    monkeypatch.setattr(testbeds.player, "_LEAD_SECONDS", 0.0)

    with pytest.raises(NotMeasurableError, match=f"told of {told} of 20 jobs"):
        testbeds.player.Player(bed, scenario, "alexnet", lambda text: None).play(0.2)


def test_a_wrong_scenario_is_wrong_usage_and_names_those_there_are() -> None:
    command = [sys.executable, str(ROOT / "tools" / "testbed"), "no-such-thing"]

    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert finished.returncode == 2
    assert "calm" in finished.stderr
