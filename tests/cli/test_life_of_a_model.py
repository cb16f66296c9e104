"""A model's life in a mesh with one device: added, held, listed, shown, planned, inferred, removed."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgemesh.node.mesh_reader import MeshReader
from edgemesh.transport.address import BrokerAddress
from tests.cli.conftest import DEVICE, Commands
from tests.tflite_models import chain


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """What other processes do comes when it comes; fails when it does not in time."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "did not happen in time"


def listed(mesh: Commands) -> dict[str, dict[str, object]]:
    return {row["model"]: row for row in json.loads(mesh("model", "list", "--json").out)}


@pytest.fixture
def small(mesh: Commands, small_model: Path) -> str:
    """The small model, added and held."""
    ran = mesh("model", "add", small_model, "--name", "small", "--image", "8x8", "--top-k", 3, "--wait", 20)
    assert ran.status == 0, ran.err
    assert f"small: held by {DEVICE}" in ran.out
    return "small"


def test_an_added_model_is_held_listed_and_shown(mesh: Commands, small: str) -> None:
    row = listed(mesh)[small]
    assert (row["units"], row["input"], row["held_by"]) == (6, "picture 8x8", [DEVICE])
    assert "picture 8x8" in mesh("model", "list").out

    eventually(lambda: DEVICE in mesh("model", "show", small).out.splitlines()[1])

    shown = json.loads(mesh("model", "show", small, "--json").out)
    assert len(shown["seconds"][DEVICE]) == 6


def test_a_model_of_the_mesh_is_fetched_and_checked(mesh: Commands, small: str) -> None:
    ran = mesh("model", "check", small, "--json")

    assert ran.status == 0, ran.err
    assert [cut["verdict"] for cut in json.loads(ran.out)["cuts"]] == ["exact"] * 5


def test_measured_codecs_are_published_with_the_model_once_and_outlive_adding_it_again(
    mesh: Commands, small: str, small_model: Path, picture: Path
) -> None:
    measured = ("model", "check", small, "--codecs", "--sample", picture)
    assert "cut as" not in mesh("model", "show", small).out

    first, again = mesh(*measured), mesh(*measured)

    assert (first.status, again.status) == (0, 0), first.err + again.err
    assert first.out.splitlines()[-1].startswith("published with the model")
    assert again.out.splitlines()[-1].startswith("the model has these very figures already")
    assert first.out.splitlines()[:-1] == again.out.splitlines()[:-1]
    shown = json.loads(mesh("model", "show", small, "--json").out)
    assert [each["codec"] for each in shown["manifest"]["codec_errors"]] == ["f16", "q8"]
    assert shown["codecs"][0] == shown["codecs"][-1] == []
    assert all("f16" in names for names in shown["codecs"][1:-1])
    text = mesh("model", "show", small).out.splitlines()
    assert text[1].endswith("cut as") and all("f16" in line for line in text[3:8])
    # The device kept the content: it is the same model.
    assert listed(mesh)[small]["held_by"] == [DEVICE]
    assert mesh("infer", small, picture).status == 0
    ran = mesh("model", "add", small_model, "--name", small, "--image", "8x8", "--top-k", 3, "--wait", 20)
    assert ran.status == 0, ran.err
    assert json.loads(mesh("model", "show", small, "--json").out)["codecs"] == shown["codecs"]


def test_inputs_of_every_kind_are_run_in_order(
    mesh: Commands, small: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "b.png").write_bytes(picture.read_bytes())
    (folder / "notes.txt").write_text("not an input")
    np.save(folder / "a.npy", np.ones((1, 8, 8, 3), np.float32))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(picture.read_bytes())))

    ran = mesh("infer", small, picture, folder, "-", "--json", "--save", tmp_path / "out")

    assert ran.status == 0, ran.err
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["input"] for row in rows] == [str(picture), str(folder / "a.npy"), str(folder / "b.png"), "-"]
    for row in rows:
        assert len(row["outputs"]["classes"]) == 3
        assert [hop["device"] for hop in row["route"]] == [DEVICE]
        assert row["seconds"] > 0
    saved = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert saved == ["a.npy", "b.png", "photo.png", "stdin.png"]
    assert np.load(tmp_path / "out" / "a.npy").shape == (1, 8, 8, 3)


def test_results_are_never_saved_over_inputs(mesh: Commands, small: str, picture: Path) -> None:
    """Found by a reader: ``--save .`` put the annotated picture in the place of the photograph."""
    array = picture.with_suffix(".npy")
    np.save(array, np.ones((1, 8, 8, 3), np.float32))
    sharp = picture.with_name("photo-edgemesh.png")
    sharp.write_bytes(picture.read_bytes())
    before = {path: path.read_bytes() for path in (picture, array, sharp)}

    ran = mesh("infer", small, *before, "--save", picture.parent)

    assert ran.status == 0, ran.err
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in picture.parent.iterdir() if path not in before) == [
        "photo-edgemesh-2.png",
        "photo-edgemesh-edgemesh.png",
        "photo-edgemesh.npy",
    ]


def test_an_input_that_fails_does_not_stop_the_others(
    mesh: Commands, small: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter, wrong, empty = tmp_path / "letter.jpg", tmp_path / "wrong.npy", tmp_path / "empty"
    letter.write_text("not a photograph")
    np.save(wrong, np.ones((1, 4, 4, 3), np.float32))
    empty.mkdir()

    ran = mesh("infer", small, letter, wrong, tmp_path / "missing.jpg", picture)

    assert ran.status == 1
    assert ran.out.startswith(f"{picture}: ")
    said = ran.err.splitlines()
    assert [line.partition(": ")[0] for line in said] == [
        str(letter),
        str(wrong),
        str(tmp_path / "missing.jpg"),
    ]
    assert "no JPEG" in said[0]
    assert "(1, 4, 4, 3), the model takes" in said[1]
    assert "No such file" in said[2]
    monkeypatch.setattr("sys.stdin", None)
    ran = mesh("infer", small, "-")
    assert (ran.status, ran.err) == (1, "-: standard input is closed\n")
    ran = mesh("infer", small, empty)
    assert (ran.status, "holds no picture" in ran.err) == (1, True)


def test_latest_lets_newer_inputs_replace_older_ones(mesh: Commands, small: str, picture: Path) -> None:
    ran = mesh("infer", small, *[picture] * 6, "--latest", "--json")

    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.status == 0, ran.err
    assert len(rows) == 6
    assert {row.get("code", "superseded") for row in rows} == {"superseded"}
    assert "outputs" in rows[-1]


def test_the_plan_is_shown_and_can_be_held_to_something(mesh: Commands, small: str) -> None:
    ran = mesh("plan", small)
    assert ran.status == 0, ran.err
    assert DEVICE in ran.out
    assert "why: " in ran.out
    assert "predicted" in mesh("plan").out

    ran = mesh("plan", small, "--pin", f"0-2:{DEVICE}", "--codecs", "f16", "--json")
    assert ran.status == 0, ran.err
    policy = json.loads(ran.out)["policies"]["small"]
    assert policy["codecs"] == ["raw", "f16"]
    assert [(pin["start"], pin["stop"], pin["device"]) for pin in policy["pins"]] == [(0, 2, DEVICE)]
    assert (policy["exclude"], policy["keep_input"]) == ([], False)
    assert "@" in policy["changed_by"]

    ran = mesh("plan", small, "--clear", "--json")
    assert json.loads(ran.out)["policies"] == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--pin", "0-2:nobody"), "no device nobody in this mesh (known: bench)"),
        (("--pin", "0-7:bench"), "has the units 0-6"),
        (("--exclude", "bench"), "excludes every device online"),
        (("--codecs", "mp3"), "no codec 'mp3': there are raw"),
        (("--price", "bench=9000000/s"), "cannot be kept to: Policy.prices[0].per_second must be"),
        (("--clear", "--keep-input"), "--clear forgets everything"),
        (("--origin", "nobody"), "no device of mesh cli"),
    ],
)
def test_a_policy_that_cannot_be_kept_to_is_refused(
    mesh: Commands, small: str, arguments: tuple[str, ...], words: str
) -> None:
    ran = mesh("plan", small, *arguments)

    assert ran.status == 2
    assert words in ran.err
    assert json.loads(mesh("plan", small, "--json").out)["policies"] == {}


def test_devices_are_listed_with_what_they_do(mesh: Commands, small: str) -> None:
    (device,) = json.loads(mesh("devices", "--json").out)

    assert (device["device"], device["state"], device["queue"]) == (DEVICE, "online", 0)
    assert small in device["models"]
    assert list(device["runtimes"]) == ["tflite"]
    assert 0 <= device["heard"] < 3
    assert mesh("devices", "--quick").out.splitlines()[1].split()[:2] == [DEVICE, "online"]


def test_doctor_names_what_is_wrong_and_how_to_mend_it(mesh: Commands, offline: Commands, small: str) -> None:
    ran = mesh("doctor", "--json")

    found = {finding["check"]: finding for finding in json.loads(ran.out)["findings"]}
    # This mesh has no gateway, and nothing else is wrong with it.
    assert ran.status == 1
    assert [name for name, finding in found.items() if finding["verdict"] == "wrong"] == ["gateway"]
    assert "edgemesh gateway run" in found["gateway"]["mend"]
    for check in (
        "broker",
        "mqtt 5",
        "echo",
        "payload",
        "retained",
        "decision node",
        "devices",
        f"model {small}",
    ):
        assert found[check]["verdict"] == "ok", found[check]
    ran = offline("doctor")
    assert ran.status == 1
    assert "wrong  broker" in ran.out


def test_other_content_under_the_same_name_replaces_it(mesh: Commands, small: str, tmp_path: Path) -> None:
    before = listed(mesh)[small]["digest"]
    other = tmp_path / "other.tflite"
    other.write_bytes(chain("ABS", "NEG", shape=(1, 8, 8, 3)).content())

    ran = mesh("model", "add", other, "--name", small, "--wait", 20)

    assert ran.status == 0, ran.err
    assert f"replaced other content of that name ({str(before)[:12]})" in ran.out
    row = listed(mesh)[small]
    assert (row["digest"] != before, row["held_by"]) == (True, [DEVICE])


def test_a_manifest_that_nobody_could_read_is_not_published(
    mesh: Commands, small: str, small_model: Path, picture: Path, tmp_path: Path
) -> None:
    """Found by a reader: it was, took the place of a model that worked, and could not be removed."""
    labels = tmp_path / "labels.json"
    labels.write_text("x" * 5000)
    again = ("model", "add", small_model, "--name", small, "--image", "8x8", "--wait", 20)

    ran = mesh(*again, "--labels", labels)

    assert ran.status == 1
    assert "small cannot be published: Manifest.classes.labels[0] has 5000 characters" in ran.err
    assert mesh(*again, "--mean", "nan").status == mesh(*again, "--scale", "1e400").status == 2
    assert mesh("infer", small, picture).status == 0


def test_labels_that_an_editor_of_windows_wrote_begin_with_the_first_one(
    mesh: Commands, small_model: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n", "utf-8-sig")

    ran = mesh("model", "add", small_model, "--name", "pets", "--image", "8x8", "--labels", labels)

    assert ran.status == 0, ran.err
    assert json.loads(mesh("model", "show", "pets", "--json").out)["manifest"]["classes"]["labels"] == [
        "cat",
        "dog",
    ]
    assert mesh("model", "remove", "pets").status == 0


def test_a_manifest_that_cannot_be_read_is_named_and_can_be_removed(
    cli: Commands, mosquitto: BrokerAddress
) -> None:
    """Found by a reader: there was no way to be rid of it with edgemesh."""

    async def publish() -> None:
        async with MeshReader(cli.mesh, mosquitto) as reader:
            await reader.publish_retained("model", b'{"name": "strange"}', model="strange")

    asyncio.run(publish())

    ran = cli("model", "show", "strange")
    assert ran.status == 1
    assert "the manifest of strange cannot be read" in ran.err and "edgemesh model remove strange" in ran.err
    ran = cli("model", "remove", "strange")
    assert (ran.status, ran.out) == (0, "strange removed; its manifest could not be read\n")
    assert "no model strange" in cli("model", "show", "strange").err


def test_content_that_has_another_name_stays(mesh: Commands, small: str, small_model: Path) -> None:
    """Found by a reader: of content that devices held it said that nobody does."""
    assert mesh("model", "add", small_model, "--name", "twin", "--wait", 20).status == 0

    assert mesh("model", "remove", "twin").out == "twin removed; its content stays, as small\n"

    assert listed(mesh)[small]["held_by"] == [DEVICE]


def test_a_removed_model_is_gone_and_dropped(mesh: Commands, small: str) -> None:
    ran = mesh("model", "remove", small)

    assert ran.status == 0, ran.err
    assert ran.out == f"small removed; dropped by {DEVICE}\n"
    assert small not in listed(mesh)
    eventually(lambda: json.loads(mesh("devices", "--quick", "--json").out)[0]["models"] == [])
    assert mesh("infer", small, "x.png").status == 1
