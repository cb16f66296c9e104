"""A pool of threads that does not do later what it could not take."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from edgemesh.node.forgetful_pool import ForgetfulPool

WAIT = 10.0


def none_left(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def _double(number: int, *, and_add: int = 0) -> int:
    return 2 * number + and_add


def test_its_calls_have_results_and_errors() -> None:
    with ForgetfulPool(1) as pool:
        assert pool.submit(_double, 2, and_add=1).result(WAIT) == 5
        assert isinstance(pool.submit(_double, None).exception(WAIT), TypeError)


def test_what_it_has_no_thread_for_is_never_done_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Photograph:
        """Large."""

    done: list[str] = []
    photograph = Photograph()
    kept = weakref.ref(photograph)
    with ForgetfulPool(1) as pool:
        with monkeypatch.context() as short_of_threads:
            short_of_threads.setattr(threading.Thread, "start", none_left)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                pool.submit(lambda _: done.append("refused"), photograph)
        del photograph
        gc.collect()
        assert kept() is None
        pool.submit(done.append, "taken").result(WAIT)
    assert done == ["taken"]


def test_what_comes_while_its_only_thread_is_busy_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    done: list[str] = []
    with ForgetfulPool(2) as pool:
        busy = pool.submit(go_on.wait, WAIT)
        monkeypatch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(done.append, "refused")
        go_on.set()
        assert busy.result(WAIT)
    assert done == []
