"""Board files: the shipped ones and a person's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.device.boards import board_names, load_board, load_boards, parse_board
from edgemesh.errors import SettingsError

NO_OWN_BOARDS = {"EDGEMESH_BOARDS": "/nonexistent"}
SHIPPED = {
    "pi-zero-2w", "pi-3b-plus", "pi-4b", "pi-5", "jetson-nano", "jetson-orin-nano", "orange-pi-5", "n100",
    "laptop", "desktop", "cloud-vm",
}  # fmt: skip


def board_text(name: str = "mine", drop: str = "", **changed: str) -> str:
    """A correct board file; ``drop`` leaves a figure out, ``changed`` replaces one's lines ('.' is '__')."""
    figures = {
        "hardware.cores": 4,
        "hardware.clock_hz": 1e9,
        "hardware.memory_bytes": 1 << 30,
        "speed.tflite.float32": 5e9,
        "power.idle_watts": 2.0,
        "power.busy_watts": 5.0,
        "power.radio_watts": 0.5,
        "link.up_bytes_per_second": 1e6,
        "link.down_bytes_per_second": 2e6,
        "link.delay": 0.001,
    }
    lines = [f'name = "{name}"', 'description = "a board"']
    for key, value in figures.items():
        if key != drop:
            body = changed.get(key.replace(".", "__"), f'value = {value}\nsource = "me"\nmethod = "meter"')
            lines.append(f"[{key}]\n{body}")
    return "\n".join(lines)


def test_the_boards_of_the_project_are_shipped() -> None:
    assert set(board_names(NO_OWN_BOARDS)) == SHIPPED
    assert [board.name for board in load_boards(NO_OWN_BOARDS)] == sorted(SHIPPED)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_figure_says_where_it_is_from(name: str) -> None:
    board = load_board(name, NO_OWN_BOARDS)

    for key, figure in board.figures.items():
        assert figure.method.strip(), key
        assert figure.source.strip() or figure.estimate, key
        # What was remembered or derived from another board may not pass for a measurement of this one.
        if "[recalled]" in figure.method.split(";")[0] or figure.method.startswith(("that of", "no figure")):
            assert figure.estimate, key


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_shipped_board_can_be_emulated_under_both_runtimes(name: str) -> None:
    board = load_board(name, NO_OWN_BOARDS)

    assert board.speed("tflite", "float32") and board.speed("tflite", "int8")
    assert board.speed("torch", "float32")
    assert board.link is not None and board.link.delay_up < 0.1
    assert board.idle_watts is not None and board.busy_watts is not None
    assert board.idle_watts < board.busy_watts
    assert board.recognition != type(board.recognition)()


def test_speed_is_one_factor_per_runtime_and_dtype() -> None:
    slow, fast = load_board("pi-3b-plus", NO_OWN_BOARDS), load_board("pi-5", NO_OWN_BOARDS)

    ratios = {
        key: fast.figures[key].value / slow.figures[key].value
        for key in fast.figures
        if key.startswith("speed.")
    }

    assert len(ratios) == 3
    assert max(ratios.values()) / min(ratios.values()) > 1.1


def test_the_published_milliseconds_are_what_the_speed_predicts() -> None:
    # SSD MobileNet v1, uint8, on a Pi 5 by aallan/benchmarking-ml-on-the-edge: 0.728 GMAC in 16.9 ms.
    speed = load_board("pi-5", NO_OWN_BOARDS).speed("tflite", "int8")

    assert speed is not None
    assert 0.728e9 / speed == pytest.approx(0.0169, rel=0.01)


def test_an_unknown_board_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'pi-9' is unknown.*cloud-vm.*pi-zero-2w.*pi-9\.toml"):
        load_board("pi-9", NO_OWN_BOARDS)


def test_an_own_board_is_found_and_goes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(board_text("mine"))
    (tmp_path / "pi-5.toml").write_text(board_text("pi-5"))
    environ = {"EDGEMESH_BOARDS": str(tmp_path)}

    assert set(board_names(environ)) == SHIPPED | {"mine"}
    assert load_board("mine", environ).cores == 4
    assert load_board("pi-5", environ).description == "a board"


def test_own_boards_are_read_from_the_configuration_directory(tmp_path: Path) -> None:
    (tmp_path / "config/boards").mkdir(parents=True)
    (tmp_path / "config/boards/mine.toml").write_text(board_text("mine"))

    assert "mine" in board_names({"EDGEMESH_HOME": str(tmp_path)})


ESTIMATE = 'value = 3\nmethod = "guess"\nestimate = true'
WRONG = [
    ("no TOML", "name = ", "is not TOML"),
    ("other name", board_text("other"), "'other'.*'mine'"),
    ("missing figure", board_text(drop="power.idle_watts"), "power.idle_watts is missing"),
    ("missing speed", board_text(drop="speed.tflite.float32"), "no speed"),
    ("no source", board_text(link__delay='value = 1\nmethod = "m"'), "link.delay.source.*estimate = true"),
    ("no method", board_text(link__delay='value = 1\nsource = "s"'), "link.delay.method"),
    ("text", board_text(link__delay='value = "1"\nsource = "s"\nmethod = "m"'), "link.delay.value"),
    ("truth", board_text(link__delay='value = true\nsource = "s"\nmethod = "m"'), "link.delay.value"),
    ("nan", board_text(link__delay='value = nan\nsource = "s"\nmethod = "m"'), "link.delay.value"),
    ("huge", board_text(link__delay=f'value = 1{"0" * 400}\nsource = "s"\nmethod = "m"'), "link.delay.value"),
    ("negative", board_text(link__delay='value = -1\nsource = "s"\nmethod = "m"'), "at least 0"),
    ("no rate", board_text(link__up_bytes_per_second=ESTIMATE.replace("3", "0")), "link.up.*at least 1"),
    ("half a core", board_text(hardware__cores=ESTIMATE.replace("3", "2.5")), "hardware.cores.*whole"),
    ("busy below idle", board_text(power__busy_watts=ESTIMATE.replace("3", "1")), "power.busy_watts is less"),
    ("bare number", board_text() + "\n[thermal]\nthrottle_celsius = 80", "thermal.throttle_.* a table"),
    ("unknown figure", board_text() + f"\n[power.peak_watts]\n{ESTIMATE}", "power.peak_watts is not known"),
    ("unknown speed", board_text() + f"\n[speed.tflite]\n{ESTIMATE}", "speed.tflite"),
    ("unknown key", board_text(link__delay=ESTIMATE + "\nunit = 's'"), "link.delay.unit is not known"),
    ("estimate", board_text(link__delay=ESTIMATE.replace("true", "1")), "link.delay.estimate"),
    ("pattern", board_text() + '\n[recognise]\ndevice_tree = "Pi"', "recognise.device_tree"),
    ("chassis", board_text() + '\n[recognise]\nchassis = ["3"]', "recognise.chassis"),
    ("unknown mark", board_text() + "\n[recognise]\nmac = []", "recognise.mac is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_one_sentence_that_names_file_and_key(text: str, wanted: str) -> None:
    with pytest.raises(SettingsError, match=f"(?s)board file place/mine.toml.*{wanted}") as caught:
        parse_board(text, "mine", "place/mine.toml")

    assert "\n" not in str(caught.value)


def test_an_estimate_needs_no_source() -> None:
    figure = parse_board(board_text(link__delay=ESTIMATE), "mine", "mine.toml").figures["link.delay"]

    assert (figure.value, figure.source, figure.estimate) == (3.0, "", True)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(SettingsError, match=r"mine\.toml cannot be read"):
        load_board("mine", {"EDGEMESH_BOARDS": str(tmp_path)})


@pytest.mark.parametrize(
    "value", ["[" * 2000 + "]" * 2000, "1" * 5000], ids=["lists in lists", "long number"]
)
def test_toml_that_python_does_not_read_is_said_to_be_none(value: str) -> None:
    """Found by a reader: neither is an error of the TOML reader's own kind."""
    with pytest.raises(SettingsError, match=r"mine\.toml is not TOML"):
        parse_board(f"a = {value}", "mine", "mine.toml")


def test_a_key_as_long_as_the_file_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as refused:
        parse_board(
            board_text() + f'\n[{"k" * 3000}]\nvalue = 1\nsource = "me"\nmethod = "me"', "mine", "mine.toml"
        )

    assert len(str(refused.value)) < 600
