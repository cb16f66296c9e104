"""The loop of an emulated board: asyncio's in all but how it waits."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import sys

import pytest

from edgemesh.transport.fine_timers import run_with_fine_timers


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio of Python 3.10 gives no choice of a loop")
def test_it_waits_in_microseconds_not_in_whole_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    def noting(*lists_and_timeout: object) -> object:
        waits.append(lists_and_timeout[3])  # type: ignore[arg-type]
        return select.select(*lists_and_timeout)  # type: ignore[call-overload]

    monkeypatch.setattr(selectors.SelectSelector, "_select", staticmethod(noting))

    run_with_fine_timers(asyncio.sleep(0.0003))

    assert any(wait is not None and 0.0 < wait < 0.0004 for wait in waits)


def test_descriptors_are_heard_and_errors_are_raised() -> None:
    read_end, write_end = os.pipe()
    heard: list[bytes] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        came = loop.create_future()
        loop.add_reader(read_end, lambda: came.done() or came.set_result(os.read(read_end, 8)))
        os.write(write_end, b"news")
        heard.append(await came)
        raise ValueError("over")

    with pytest.raises(ValueError, match="over"):
        run_with_fine_timers(main())
    os.close(read_end)
    os.close(write_end)

    assert heard == [b"news"]
