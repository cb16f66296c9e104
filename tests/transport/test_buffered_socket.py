"""What paho reads and writes through it is what the plain socket would have read and written."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemesh.transport.buffered_socket import BufferedSocket


class CountedSocket:
    """A plain socket that counts the calls of ``send`` and ``recv_into``."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.calls = 0

    def send(self, data: bytes) -> int:
        self.calls += 1
        return self._socket.send(data)

    def recv_into(self, buffer: bytearray) -> int:
        self.calls += 1
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def pair() -> Iterator[tuple[CountedSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.settimeout(10.0)
        yield CountedSocket(ours), theirs


@settings(deadline=None)
@given(st.lists(st.integers(1, 300_000), max_size=4), st.lists(st.integers(1, 200_000)))
def test_any_way_of_reading_gives_the_bytes_in_order(sent: list[int], sizes: list[int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        buffered = BufferedSocket(ours)
        whole = b"".join(bytes([i + 1]) * size for i, size in enumerate(sent))
        left, got = memoryview(whole), bytearray()
        sizes = [*sizes, 70_000]

        theirs.setblocking(False)
        turn = 0
        while len(got) < len(whole):
            if left:
                with contextlib.suppress(BlockingIOError):  # until some of it is read
                    left = left[theirs.send(left) :]
            buffered.readable()
            try:
                while True:
                    got += buffered.recv(sizes[turn % len(sizes)])
                    turn += 1
            except BlockingIOError:
                assert buffered.pending() == 0

        theirs.close()
        buffered.readable()
        assert bytes(got) == whole
        assert buffered.recv(1) == b""


def test_a_message_in_small_pieces_takes_one_call(pair: tuple[CountedSocket, socket.socket]) -> None:
    ours, theirs = pair
    buffered = BufferedSocket(ours)
    theirs.send(b"\x32\x05hello")

    assert [buffered.recv(size) for size in (1, 1, 5)] == [b"\x32", b"\x05", b"hello"]
    with pytest.raises(BlockingIOError):
        buffered.recv(1)

    assert ours.calls == 1


def test_packets_leave_together_and_in_order(pair: tuple[CountedSocket, socket.socket]) -> None:
    ours, theirs = pair
    buffered = BufferedSocket(ours)

    for packet in (b"message", b"acknowledgement", bytes(100_000)):
        assert buffered.send(packet) == len(packet)
    assert ours.calls == 0
    assert buffered.flush()

    assert ours.calls == 2
    received = b""
    while len(received) < 100_022:
        received += theirs.recv(1 << 20)
    assert received == b"messageacknowledgement" + bytes(100_000)


def test_what_the_socket_does_not_take_is_kept(pair: tuple[CountedSocket, socket.socket]) -> None:
    ours, theirs = pair
    buffered = BufferedSocket(ours)
    data = bytes(range(256)) * 20_000

    buffered.send(data)
    received = b""
    while not buffered.flush():
        received += theirs.recv(1 << 20)
    buffered.close()
    while piece := theirs.recv(1 << 20):
        received += piece

    assert received == data


def test_closing_sends_the_last_packet(pair: tuple[CountedSocket, socket.socket]) -> None:
    ours, theirs = pair
    buffered = BufferedSocket(ours)

    buffered.send(b"\xe0\x00")  # DISCONNECT
    buffered.close()

    assert theirs.recv(10) == b"\xe0\x00"
    assert theirs.recv(10) == b""


def test_a_broken_connection_is_an_error_and_closes_all_the_same(
    pair: tuple[CountedSocket, socket.socket],
) -> None:
    ours, theirs = pair
    buffered = BufferedSocket(ours)
    theirs.close()

    buffered.send(b"into nothing")
    with pytest.raises(OSError):
        buffered.flush()
    buffered.send(b"again")
    buffered.close()
