"""How bytes get to the executor's process: the shared memory in use against a socket pair alone.

``PYTHONPATH=.:tools python -m benchmarks.channels``. One way, answered by one byte; both leave the bytes
where the executor can view them as an array. Shared memory saves the copy out of the kernel, not the one in.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Callable
from statistics import median

from edgemesh.runtime.channel import BlockingReader, pack_message, send_all, widen
from edgemesh.runtime.shared_bodies import SharedBodies, shared_bodies

SIZES = (1 << 10, 50 << 10, 600 << 10, 4 << 20)
_ROUNDS, _BLOCK = 21, 20


def _answer_messages(sock: socket.socket, memory: SharedBodies | None) -> None:
    reader = BlockingReader(sock)
    while (message := reader.read()) is not None:
        if memory is not None:
            memory.body_of(*message)
        sock.sendall(b"!")


def main() -> None:
    """Print the medians, taken in turn."""
    context = multiprocessing.get_context("fork")
    ours, theirs = socket.socketpair()
    widen(ours)
    widen(theirs)
    signal, answer = socket.socketpair()
    memory = shared_bodies()
    if memory is None:
        raise SystemExit("this system has no memory without a name to share: measure on Linux")
    children = [
        context.Process(target=_answer_messages, args=(theirs, None), daemon=True),
        context.Process(target=_answer_messages, args=(answer, memory), daemon=True),
    ]
    for child in children:
        child.start()

    def through_socket(body: bytes) -> None:
        send_all(ours, pack_message({"do": "run"}, [body]))
        ours.recv(1)

    def through_memory(body: bytes) -> None:
        send_all(signal, memory.with_request({"do": "run"}, [body], ahead=False))
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


if __name__ == "__main__":
    main()
