"""The digest of code changes with what the code does, and with nothing else."""

from __future__ import annotations

from pathlib import Path

from edgemesh.simulation.code_digest import digest_of_code

_SOURCE = '''"""A module."""

LIMIT = 3
"""Of what."""


def double(value: int) -> int:
    """Twice as much."""
    return 2 * value  # exactly
'''


def _digest(folder: Path, source: str, name: str = "roles.py") -> str:
    package = folder / "package"
    package.mkdir(exist_ok=True)
    for old in package.iterdir():
        old.unlink()
    (package / name).write_text(source, encoding="utf-8")
    assert digest_of_code([package / name]) != digest_of_code([package])  # its folder is part of its name
    return digest_of_code([package])


def test_words_about_the_code_change_nothing(tmp_path: Path) -> None:
    before = _digest(tmp_path, _SOURCE)

    for old, new in (
        ("A module.", "One."),
        ("Of what.", "Of it."),
        ("Twice", "Two times"),
        ("exactly", "so"),
    ):
        assert _digest(tmp_path, _SOURCE.replace(old, new)) == before
    assert _digest(tmp_path, _SOURCE.replace('    """Twice as much."""\n', "")) == before


def test_what_the_code_does_changes_it_and_so_does_its_name(tmp_path: Path) -> None:
    sources = [
        _SOURCE,
        _SOURCE.replace("LIMIT = 3", "LIMIT = 4"),
        _SOURCE.replace("2 * value", "value * 2"),
        _SOURCE.replace("return 2", 'value += len("Twice as much.")\n    return 2'),
        _SOURCE.replace("def double(value: int)", 'def double(value: int, text: str = "A module.")'),
    ]
    digests = {_digest(tmp_path, source) for source in sources} | {_digest(tmp_path, _SOURCE, "worker.py")}

    assert len(digests) == len(sources) + 1


def test_it_is_the_same_in_every_python(tmp_path: Path) -> None:
    """Computed by Python 3.10 and 3.14, whose ``ast.dump`` says different things."""
    assert _digest(tmp_path, _SOURCE)[:16] == "6569add047cc2785"
