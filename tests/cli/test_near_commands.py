"""A command or option in the wrong words or the wrong place: what was meant is said."""

from __future__ import annotations

import pytest

from edgemesh.cli.main import COMMANDS, run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("devics", "No such command 'devics'. Did you mean  edgemesh devices  or  edgemesh device?"),
        ("infr face a.jpg", "Did you mean  edgemesh infer?"),
        ("status", "No such command 'status'. Did you mean  edgemesh devices?"),
        ("ps", "Did you mean  edgemesh devices?"),
        ("run face a.jpg", "Did you mean  edgemesh infer  or  edgemesh device run?"),
        ("device list", "No such command 'list'. Did you mean  edgemesh devices?"),
        ("device runn", "Did you mean  edgemesh device run?"),
        ("model ls", "Did you mean  edgemesh model list?"),
        ("model chek", "Did you mean  edgemesh model check?"),
        ("decision start", "No such command 'start'."),
        ("xyzzy", "No such command 'xyzzy'."),
    ],
)
def test_a_command_that_is_not_there_is_answered_with_the_one_that_was_meant(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(arguments.split())

    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 2
    assert error.startswith("Error: No such command") and error.endswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("devices --broker mqtt://pi", "--broker goes before the command:  edgemesh --broker ... devices"),
        ("device run --mesh x", "--mesh goes before the command:  edgemesh --mesh ... device run"),
        ("plan -v", "-v goes before the command:  edgemesh -v ... plan"),
    ],
)
def test_an_option_of_the_program_behind_a_command_is_told_its_place(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(arguments.split())

    assert status == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("arguments", ["devices --jsn", "--brker mqtt://pi devices"])
def test_an_option_that_is_nowhere_is_refused_as_before(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(arguments.split())

    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 2
    assert "o such option" in error and "before the command" not in error


def test_no_word_of_others_hides_a_command() -> None:
    from edgemesh.cli.main import _CALLED

    assert not set(_CALLED) & set(COMMANDS)
