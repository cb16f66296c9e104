"""What a broker of our own says is kept short, and its end is there when it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO

import pytest

from edgemesh.transport import last_words as module
from edgemesh.transport.last_words import LastWords
from tests.brokers.servers import Mosquitto, run_tool

TALKS = """
import sys
for line in sys.stdin:
    sys.stderr.write(f"{line.strip()} {'x' * 90}\\n" * 100 + "end of " + line)
    sys.stderr.flush()
    print("said", flush=True)
"""


def has_talked(child: subprocess.Popen[str], what: str) -> None:
    said: IO[str] | None = child.stdout
    assert child.stdin is not None and said is not None
    child.stdin.write(f"{what}\n")
    child.stdin.flush()
    assert said.readline() == "said\n"


def test_a_child_that_goes_on_talking_takes_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by a reader: 0.66 GB a month with a submission each second."""
    monkeypatch.setattr(module, "_MOST_BYTES", 50_000)
    words = LastWords()
    assert words.text() == "it said nothing"
    command = [sys.executable, "-c", TALKS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True
    ) as child:
        for number in range(50):
            has_talked(child, str(number))
            words.shorten()
            assert os.fstat(words.fileno()).st_blocks * 512 <= 50_000 + 20_000
            assert words.text().endswith(f"end of {number}")
        assert child.stdin is not None
        child.stdin.close()

    assert words.text().count(";") == 2
    words.close()
    words.close()


def test_whoever_looks_whether_a_broker_lives_keeps_its_words_short(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 5_000)
    with Mosquitto.shipped(tmp_path_factory.mktemp("broker")) as server:
        assert server.child is not None
        for _ in range(30):
            run_tool("mosquitto_pub", "-p", str(server.port), "-t", "submit", "-m", "x")
        assert server.child.ended() is None

        assert os.fstat(server.child._words.fileno()).st_size < 5_000
