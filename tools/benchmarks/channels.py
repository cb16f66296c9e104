"""How bytes get to the executor's process: the socket pair in use against shared memory.

``PYTHONPATH=.:tools python -m benchmarks.channels``. One way, answered by one byte; both leave the bytes
where the executor can view them as an array. Shared memory saves the copy out of the kernel, not the one in.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from statistics import median

from edgemesh.runtime.channel import BlockingReader, pack_message, send_all, widen

SIZES = (1 << 10, 50 << 10, 600 << 10, 4 << 20)
_ROUNDS, _BLOCK = 21, 20


def _answer_messages(sock: socket.socket) -> None:
    reader = BlockingReader(sock)
    while reader.read() is not None:
        sock.sendall(b"!")


def _answer_signals(sock: socket.socket, name: str) -> None:
    memory = SharedMemory(name)
    while sock.recv(1):
        sock.sendall(b"!")
    memory.close()


def main() -> None:
    """Print the medians, taken in turn."""
    context = multiprocessing.get_context("fork")
    ours, theirs = socket.socketpair()
    widen(ours)
    widen(theirs)
    signal, answer = socket.socketpair()
    memory = SharedMemory(create=True, size=max(SIZES))
    children = [
        context.Process(target=_answer_messages, args=(theirs,), daemon=True),
        context.Process(target=_answer_signals, args=(answer, memory.name), daemon=True),
    ]
    for child in children:
        child.start()

    def through_socket(body: bytes) -> None:
        send_all(ours, pack_message({"do": "run"}, [body]))
        ours.recv(1)

    def through_memory(body: bytes) -> None:
        memory.buf[: len(body)] = body
        signal.sendall(b"!")
        signal.recv(1)

    print(f"{'bytes':>10} {'socket pair, us':>18} {'shared memory, us':>18}")
    for size in SIZES:
        body = bytes(size)
        samples: dict[Callable[[bytes], None], list[float]] = {through_socket: [], through_memory: []}
        for _ in range(_ROUNDS):
            for run, seconds in samples.items():
                for _ in range(_BLOCK):
                    began = time.perf_counter()
                    run(body)
                    seconds.append(time.perf_counter() - began)
        figures = [median(seconds) * 1e6 for seconds in samples.values()]
        print(f"{size:>10} {figures[0]:>18.1f} {figures[1]:>18.1f}")
    for child in children:
        child.terminate()
        child.join()
    memory.close()
    memory.unlink()


if __name__ == "__main__":
    main()
