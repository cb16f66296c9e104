"""A broker as a child process: started, waited for until it answers, and ended with its parent."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from edgemesh.errors import BrokerError
from edgemesh.transport.greeting import greeting
from edgemesh.transport.last_words import LastWords

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_PROBE_SECONDS = 5.0
_DEATH_SIGNAL = ("--pdeathsig", "TERM", "--")


class ChildBroker:
    """Runs ``command`` until ``stop``. It must listen on ``host:port`` for MQTT 5."""

    def __init__(
        self, command: Sequence[str], host: str, port: int, environment: Mapping[str, str] | None = None
    ) -> None:
        """``environment`` is our own where it is None; raises BrokerError where nothing can be started."""
        self._host, self._port = host, port
        self._command, self._environment = command, environment
        self._start()

    def _start(self) -> None:
        try:
            words = LastWords()
            try:
                self._process = self._spawn(words)
            except OSError:
                words.close()
                raise
        except OSError as error:  # short of processes, files or disk, or the program is being replaced
            raise BrokerError(
                f"the broker on port {self._port} cannot be started: {error.strerror or error}"
            ) from None
        self._words = words

    def _spawn(self, words: LastWords) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*_ends_with_its_parent(), *self._command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=words.fileno(),
            stderr=subprocess.STDOUT,
            # Ctrl-C goes to a terminal's whole foreground group: the broker must outlive the last words of
            # those who use it, and is stopped after them.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        return self._process.pid

    def wait_until_it_answers(self) -> None:
        """Returns when it takes an MQTT 5 CONNECT; raises BrokerError with its own words when it does not."""
        deadline = time.monotonic() + _START_SECONDS
        while greeting(self._host, self._port, timeout=1.0) is None:
            why = self.ended()
            if why is not None:
                self.stop()
                raise BrokerError(why)
            if time.monotonic() > deadline:
                words = self._words.text()
                self.stop()
                raise BrokerError(
                    f"the broker on port {self._port} did not answer within {_START_SECONDS:g} s: {words}"
                )
            time.sleep(0.01)

    def ended(self) -> str | None:
        """What it ended with though nobody stopped it; None while it runs.

        To be asked now and then by who lets it run for long: what it says is kept short meanwhile.
        """
        status = self._process.poll()
        if status is None:
            self._words.shorten()
            return None
        return f"the broker on port {self._port} ended with status {status}: {self._words.text()}"

    def start_again(self) -> None:
        """Run the same command anew; returns and raises as ``wait_until_it_answers``."""
        self.stop()
        self._start()
        self.wait_until_it_answers()

    def stop(self) -> None:
        """End the process and wait for it; safe to call twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._words.close()


def _ends_with_its_parent() -> list[str]:
    """Prefix that makes the kernel end a child when its parent was killed and could not.

    The signal comes when the *thread* that started the child ends, so start brokers from one that stays.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.name != "posix":
        return []
    with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError, PermissionError):
        return [setpriv, *_DEATH_SIGNAL] if _knows_death_signal(setpriv) else []
    return []


@functools.cache
def _knows_death_signal(setpriv: str) -> bool:
    """Whether this is the one of util-linux: BusyBox has another of that name.

    What raises is not remembered: a machine that is short of processes now says nothing of setpriv.
    """
    probe = subprocess.run(
        [setpriv, *_DEATH_SIGNAL, "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_PROBE_SECONDS,
        check=False,
    )
    return probe.returncode == 0
