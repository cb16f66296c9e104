"""What listens may be no broker at all, or one that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from edgemesh.device.boards import Link
from edgemesh.device.emulation import LinkShaper
from edgemesh.transport import connection
from edgemesh.transport.buffered_socket import BufferedSocket
from edgemesh.transport.paho_client import KEEPALIVE
from edgemesh.transport.session import SessionSettings
from tests.transport.agent import Agent, Serve, run, served

CONNACK = bytes((0x20, 3, 0, 0, 0))


def scripted(*answers: bytes, then_close: bool = False) -> Serve:
    """Reads a CONNECT and answers with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        for answer in answers:
            writer.write(answer)
        if then_close:
            writer.close()
        else:
            await reader.read()
            writer.close()

    return serve


async def until_end(reader: asyncio.StreamReader) -> bytes:
    """What is sent until ``end``, or until the connection ends."""
    try:
        return await reader.readuntil(b"end")
    except asyncio.IncompleteReadError as cut_short:
        return cut_short.partial


def problem_with(serve: Serve) -> str:
    """What an agent says about a server."""
    said = ""

    async def story() -> None:
        nonlocal said
        async with served(serve) as address, Agent(address, "victim") as agent:
            said = await agent.hears("problem")

    run(story())
    return said


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_ANSWER_SECONDS", 0.1)

    assert "does not answer as a broker" in problem_with(scripted())


def test_a_slow_answer_after_a_slow_look_up_of_the_name_is_waited_for() -> None:
    """Found by a reader: with a first name server that is away no attempt ever came through."""
    asked, looked = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        asked.set()
        await looked.wait()
        writer.write(CONNACK)
        await reader.read()
        writer.close()

    async def story() -> None:
        async with served(serve) as address, Agent(address, "patient") as agent:
            await asked.wait()
            while agent.connection._timer is None:
                await asyncio.sleep(0)
            agent.connection._client._last_bytes_received -= 2 * KEEPALIVE
            agent.connection._tick()
            looked.set()
            assert await agent.next() == ("connected", None)

    run(story())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
        bytes((0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F)),
        bytes((0x20, 0)),
        CONNACK[:2] + b"\x00\x00\x05",
    ],
    ids=["http", "zeros", "ones", "length", "empty CONNACK", "cut properties"],
)
def test_an_answer_that_is_no_mqtt_ends_in_a_sentence(answer: bytes) -> None:
    assert problem_with(scripted(answer, then_close=True))


def test_garbage_after_a_welcome_ends_the_connection_and_nothing_else() -> None:
    async def story() -> None:
        async with (
            served(scripted(CONNACK, b"\x30\x02\xff\xff", then_close=True)) as address,
            Agent(address, "victim") as agent,
        ):
            await agent.hears("connected")
            await agent.hears("disconnected")
            await agent.hears("connected")

    run(story())


def test_what_there_was_no_memory_for_is_read_whole_by_the_next_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by a reader: paho went on without the part, and the rest was delivered as the message."""
    payload = bytes(range(256)) * 1024
    rest = b"\x00\x05photo\x00" + payload
    head = bytes((0x30, len(rest) & 0x7F | 0x80, len(rest) >> 7 & 0x7F | 0x80, len(rest) >> 14))
    read, lost = BufferedSocket.recv, list[int]()

    def short_of_memory(sock: BufferedSocket, size: int) -> memoryview:
        part = read(sock, size)
        if len(part) > 1000 and not lost:
            lost.append(len(part))
            raise MemoryError
        return part

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # by who left with more to read
            await scripted(CONNACK, head + rest)(reader, writer)

    async def story() -> None:
        async with served(serve) as address, Agent(address, "victim") as agent:
            monkeypatch.setattr(BufferedSocket, "recv", short_of_memory)
            assert "cannot be read: MemoryError" in await agent.hears("problem")
            assert "cannot be read: MemoryError" in await agent.hears("disconnected")
            message = await agent.hears("message")
            assert message.payload == payload and lost

    run(story())


def test_a_refused_password_is_said_with_what_to_check() -> None:
    async def story() -> None:
        refusal = bytes((0x20, 3, 0, 0x86, 0))
        async with served(scripted(refusal, then_close=True)) as address, Agent(address, "victim") as agent:
            sentence = await agent.hears("refused")
            assert "victim" in sentence
            assert "check the user name and password" in sentence

    run(story())


def test_who_is_thrown_out_with_a_reason_is_told_at_once_and_does_not_come_back() -> None:
    async def story() -> None:
        taken_over = bytes((0xE0, 2, 0x8E, 0))
        async with (
            served(scripted(CONNACK, taken_over)) as address,
            Agent(address, "twin", leaves_when_taken_over=True) as agent,
        ):
            assert "two agents have the same name" in await agent.hears("problem")
            await agent.hears("taken over")
            assert agent.connects == 1

    run(story())


def test_what_its_owner_sends_anew_is_not_sent_again_by_the_next_connection() -> None:
    """On a slow link that breaks again and again copies of copies would keep everything else waiting."""
    lives: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK)
        lives.append(await until_end(reader))  # nothing is ever acknowledged
        writer.close()

    async def story() -> None:
        async with served(serve) as address, Agent(address, "victim") as agent:
            await agent.hears("connected")
            agent.publish("once", b"", resend=False)
            agent.publish("again", b"")
            agent.publish("end", b"", resend=False)
            await agent.hears("disconnected")
            agent.publish("away", b"", resend=False)
            await agent.hears("connected")
            agent.publish("new", b"", resend=False)
            agent.publish("end", b"", resend=False)
            await agent.hears("disconnected")

    run(story())
    first, second = lives[:2]
    assert b"once" in first and b"again" in first
    assert b"again" in second and b"new" in second
    assert b"once" not in second and b"away" not in second


def test_what_an_emulated_link_still_holds_of_a_lost_connection_is_lost_with_it() -> None:
    lives: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK)
        if lives:
            lives.append(await until_end(reader))
        else:
            await asyncio.sleep(0.05)  # what it publishes meanwhile is on its way for half a second
            lives.append(b"")
        writer.close()

    async def story() -> None:
        session = SessionSettings(shaper=LinkShaper(Link(1e6, 0.5, 1e6, 0.0)))
        async with served(serve) as address, Agent(address, "victim", session) as agent:
            await agent.hears("connected")
            agent.publish("once", b"", resend=False)
            agent.publish("again", b"")
            await agent.hears("disconnected")
            await agent.hears("connected")
            agent.publish("end", b"", resend=False)
            await agent.hears("disconnected")

    run(story())
    assert b"again" in lives[1] and b"once" not in lives[1]
