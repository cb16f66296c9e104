"""Programs that use a mesh: closed by one thread while others use them, never open, or models that change."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest

from edgemesh.errors import BrokerError, DecodeError, EdgemeshError, InputError, ReplacedError
from edgemesh.node.client import AsyncClient, Client
from edgemesh.node.job_session import BrokerSession
from edgemesh.node.local_lane import pack_ended, pack_job, unpack_ended, unpack_job
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.manifest import Manifest, TensorSpec, Unit
from edgemesh.protocol.tensors import section_bytes
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.events import JobSubmitted
from edgemesh.runtime.channel import PREFIX

WAIT = 10.0
SPEC = (TensorSpec("values", "float32", (1, 2)),)
MODEL = Manifest("dogs", "a" * 64, "tflite", 1, (Unit("all", 1, 1, 1, 1),), (SPEC, SPEC), 1, ("c" * 64,))
INPUT = np.zeros((1, 2), np.float32)


def knows(client: Client, manifest: Manifest) -> None:
    """The mesh says what the model's content is now."""
    session = client._twin._session
    assert isinstance(session, BrokerSession)
    session.role.view.manifests[manifest.name] = manifest


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """One whose jobs wait: its broker never answers."""

    async def at_once(session: BrokerSession, timeout: float) -> None:
        pass

    monkeypatch.setattr(BrokerSession, "open", at_once)
    client = Client("mqtt://127.0.0.1:1", timeout=600.0)
    knows(client, MODEL)
    yield client
    client.close()


@pytest.mark.parametrize("round_", range(5))
def test_no_thread_waits_for_a_client_that_another_one_closed(client: Client, round_: int) -> None:
    told: list[str] = []
    three = threading.Semaphore(0)

    def work() -> None:
        while True:
            three.release()
            try:
                client.infer(MODEL.name, INPUT)
            except EdgemeshError as error:  # submits again, as programs do
                told.append(str(error))
            except RuntimeError:
                return

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        three.acquire()
    client.close()
    for thread in threads:
        thread.join(WAIT)

    assert not any(thread.is_alive() for thread in threads)
    assert all("the client was closed" in text for text in told)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning", "error::RuntimeWarning")
def test_a_closed_client_says_so(client: Client) -> None:
    client.close()

    for use in (
        lambda: client.infer(MODEL.name, INPUT),
        lambda: client.begin(MODEL.name, INPUT),
        lambda: client.manifest(MODEL.name),
        lambda: list(client.stream(MODEL.name, [INPUT])),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            use()
    client.close()


def use_and_close(client: Client, said: Any) -> None:
    """What a fork is told."""
    for use in (
        lambda: client.infer(MODEL.name, INPUT),
        lambda: client.begin(MODEL.name, INPUT),
        lambda: client.manifest(MODEL.name),
        client.close,
    ):
        try:
            said.send(str(use()))
        except RuntimeError as error:
            said.send(str(error))


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_client_says_that_a_fork_must_open_its_own(client: Client) -> None:
    """Found by a reader: there it waited without end, or used its parent's connection."""
    forks = multiprocessing.get_context("fork")
    says, said = forks.Pipe(duplex=False)
    fork = forks.Process(target=use_and_close, args=(client, said), daemon=True)
    with client._loop._lock:  # as by a thread that was just beginning something
        fork.start()
    try:
        for expected in ("this is a fork", "this is a fork", "this is a fork", "None"):
            assert says.poll(WAIT)
            assert expected in says.recv()
        fork.join(WAIT)
        assert fork.exitcode == 0
    finally:
        fork.kill()

    pending = client.begin(MODEL.name, INPUT)
    client.close()
    with pytest.raises(BrokerError, match="the client was closed"):
        pending.result()


def test_a_job_that_was_begun_ends_with_the_client(client: Client) -> None:
    pending = client.begin(MODEL.name, INPUT)
    client.close()

    with pytest.raises(BrokerError, match="the client was closed"):
        pending.result()


def test_several_threads_may_close_a_client(client: Client) -> None:
    errors: list[BaseException] = []

    def close() -> None:
        try:
            client.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=close, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)

    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


def test_an_open_that_is_cut_short_leaves_nothing_that_goes_on_trying() -> None:
    async def story() -> None:
        hellos: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hellos.append(await reader.read(1000))
            await reader.read()  # says nothing, until the client is gone
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = AsyncClient(f"mqtt://127.0.0.1:{port}")
        opening = asyncio.ensure_future(client.open())
        while not hellos:
            await asyncio.sleep(0.005)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

        assert isinstance(client._session, BrokerSession)
        connection = client._session.shell.connection
        assert connection is not None and connection._closing and connection._socket is None
        server.close()

    asyncio.run(asyncio.wait_for(story(), WAIT))


def test_a_close_that_is_cancelled_closes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        session = BrokerSession("home", "app", AsyncClient()._address, asyncio.get_running_loop())
        goes_on, closed = asyncio.Event(), []

        async def slow(last_words: list[object]) -> None:
            await goes_on.wait()
            closed.append(True)

        monkeypatch.setattr(session.shell, "close", slow)
        closing = asyncio.ensure_future(session.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        goes_on.set()
        while not closed:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(story(), WAIT))


OTHER = replace(MODEL, digest="b" * 64)
"""Other content under the same name."""


def replaced_under_way(client: Client, monkeypatch: pytest.MonkeyPatch, *, times: int) -> list[JobSubmitted]:
    """What is submitted while the model is replaced so many times under a job."""
    submitted: list[JobSubmitted] = []

    def submit(session: BrokerSession, job: JobSubmitted, ended: Callable[[JobEnded], None]) -> None:
        submitted.append(job)
        knows(client, OTHER)
        code = "replaced" if len(submitted) <= times else None
        ended(JobEnded(job.job, job.model, 0.1, code, code, section_bytes([INPUT])))

    monkeypatch.setattr(BrokerSession, "submit", submit)
    return submitted


def test_an_input_is_prepared_anew_where_the_model_was_replaced(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = replaced_under_way(client, monkeypatch, times=1)

    result = client.infer(MODEL.name, INPUT)

    assert [job.digest for job in submitted] == [MODEL.digest, OTHER.digest]
    assert submitted[1].left < submitted[0].left
    assert result.tensors[0].shape == (1, 2)


def test_a_model_that_is_replaced_again_and_again_is_an_error(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = replaced_under_way(client, monkeypatch, times=9)

    with pytest.raises(ReplacedError):
        client.infer(MODEL.name, INPUT)

    assert len(submitted) == 2


def test_what_is_begun_after_a_model_was_replaced_is_prepared_for_the_new_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = replaced_under_way(client, monkeypatch, times=1)

    with pytest.raises(ReplacedError):
        client.begin(MODEL.name, INPUT).result()
    client.begin(MODEL.name, INPUT).result()

    assert [job.digest for job in submitted] == [MODEL.digest, OTHER.digest]


def test_the_asyncio_client_prepares_anew_as_well(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = replaced_under_way(client, monkeypatch, times=1)

    client._loop.run_coroutine(client._twin.infer(MODEL.name, INPUT))

    assert [job.digest for job in submitted] == [MODEL.digest, OTHER.digest]


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ([Hop("No Such!", 1)], "device must be an id"),
        ([Hop("desk", 1, "zip")], "codec must be one of"),
        ([Hop("desk", np.int64(1))], "stop must be"),
        ([("desk", 1)], "it has a tuple where a Hop belongs"),
        ([Hop("desk", 1), Hop("pi", 1)], "do not grow"),
        ([], "0 partitions"),
    ],
)
def test_a_route_that_no_message_could_carry_is_told_to_who_gave_it(
    client: Client, monkeypatch: pytest.MonkeyPatch, route: Any, says: str
) -> None:
    """Found by a reader: `begin` never ended, and on the local lane the jobs of others did."""
    submitted = replaced_under_way(client, monkeypatch, times=0)

    for use in (
        lambda: client.begin(MODEL.name, INPUT, route=route),
        lambda: client.infer(MODEL.name, INPUT, route=route),
        lambda: client._loop.run_coroutine(client._twin.infer(MODEL.name, INPUT, route=route)),
    ):
        with pytest.raises(InputError, match=says):
            use()

    assert submitted == []


def test_a_job_that_fails_while_it_is_submitted_ends_in_that(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: it was waited for without end."""
    ends: list[Callable[[JobEnded], None]] = []

    def submit(session: BrokerSession, job: JobSubmitted, ended: Callable[[JobEnded], None]) -> None:
        ends.append(ended)
        raise ZeroDivisionError

    monkeypatch.setattr(BrokerSession, "submit", submit)
    pending = client.begin(MODEL.name, INPUT)

    with pytest.raises(ZeroDivisionError):
        pending._future.result(WAIT)
    ends[0](JobEnded("j-1", MODEL.name, 0.1))  # what it left behind ends with the client


def test_the_local_lane_carries_what_an_input_was_prepared_for() -> None:
    job = JobSubmitted("j-1", "dogs", b"tensors", 1.0, digest="b" * 64)
    header, body = unpacked(pack_job(job))

    assert unpack_job(header, body) == replace(job, section=body)
    with pytest.raises(DecodeError):
        unpack_job({**header, "digest": "../elsewhere"}, body)


def test_the_local_lane_says_what_content_answered() -> None:
    ended = JobEnded("j-1", "dogs", 0.1, section=b"tensors", digest="b" * 64)

    assert unpack_ended(*unpacked(pack_ended(ended))).digest == "b" * 64


@pytest.mark.parametrize("alone", [True, False])
def test_the_local_lane_says_whether_the_device_was_alone(alone: bool) -> None:
    header, body = unpacked(pack_ended(JobEnded("j-1", "dogs", 0.1, section=b"tensors", alone=alone)))

    assert unpack_ended(header, body).alone is alone
    assert unpack_ended(without(header, "alone"), body).alone is False  # an agent of an older release


def without(header: dict[str, Any], name: str) -> dict[str, Any]:
    """The header as who does not know the field sends it."""
    assert name in header
    return {field: value for field, value in header.items() if field != name}


@pytest.mark.parametrize("alone", [True, False])
def test_a_result_says_whether_the_device_was_alone(
    client: Client, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    def submit(session: BrokerSession, job: JobSubmitted, ended: Callable[[JobEnded], None]) -> None:
        ended(JobEnded(job.job, job.model, 0.1, section=section_bytes([INPUT]), alone=alone))

    monkeypatch.setattr(BrokerSession, "submit", submit)

    results = [
        client.infer(MODEL.name, INPUT),
        client.begin(MODEL.name, INPUT).result(),
        client._loop.run_coroutine(client._twin.infer(MODEL.name, INPUT)),
    ]

    assert [result.alone for result in results] == [alone] * 3
    assert all(result.tensors[0].shape == (1, 2) for result in results)


def unpacked(buffers: list[Any]) -> tuple[dict[str, Any], memoryview]:
    """Header and body of a message of the lane."""
    whole = b"".join(bytes(buffer) for buffer in buffers)
    length, _ = PREFIX.unpack_from(whole)
    end = PREFIX.size + length
    return msgpack.unpackb(whole[PREFIX.size : end]), memoryview(whole)[end:]
