"""What commands print where standard output takes not every character."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys

import pytest

from edgemesh.cli.output import print_json, print_text

main = importlib.import_module("edgemesh.cli.main")

NOT_UTF_8 = os.fsdecode(b"caf\xe9.png")
"""As the system gives the name of such a file."""


def _standard_output(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    """A strict stream in place of standard output; what is written there."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    return written


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("name", [NOT_UTF_8, "café.png", "日本.png"])
def test_json_holds_any_name(monkeypatch: pytest.MonkeyPatch, encoding: str, name: str) -> None:
    """Found by a reader: a file name that is not UTF-8 ended ``infer --json`` before the other inputs."""
    written = _standard_output(monkeypatch, encoding)

    print_json({"input": name})

    assert json.loads(written.getvalue().decode(encoding)) == {"input": name}


def test_json_stays_readable_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    written = _standard_output(monkeypatch, "utf-8")

    print_json({"input": "日本.png"})

    assert written.getvalue().decode() == '{"input": "日本.png"}\n'


def test_text_is_written_as_far_as_standard_output_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written = _standard_output(monkeypatch, "latin-1")
    monkeypatch.setattr(main, "run", lambda arguments: print_text("日本 café"))

    with pytest.raises(SystemExit):
        main.main([])

    assert written.getvalue() == b"?? caf\xe9\n"
