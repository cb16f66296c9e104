"""Errors, by who must act: the peer, the operator, or nobody yet.

A bug is an ``assert``; everything here is expected to happen. ``code`` travels in error results, so each
class has one and ``ERRORS`` maps it back.
"""

from __future__ import annotations

from typing import ClassVar


class EdgemeshError(Exception):
    """Root of all expected failures; the text names what failed and what to do next."""

    code: ClassVar[str] = "error"


# --- the peer must act: what it sent cannot be used -------------------------------------------------


class PeerError(EdgemeshError):
    """A message from elsewhere is unusable."""

    code = "bad-message"


class DecodeError(PeerError):
    """Received bytes are not a message of the wire contract, or exceed a limit."""

    code = "bad-message"


class VersionError(PeerError):
    """The sender speaks another major version of the wire contract."""

    code = "wrong-version"


class InputError(PeerError):
    """The input of a job is not what its model takes (no image, wrong shape, wrong type), or is too large."""

    code = "bad-input"


# --- the operator must act ---------------------------------------------------------------------------


class OperatorError(EdgemeshError):
    """Settings, files or installation need a person."""

    code = "operator"


class SettingsError(OperatorError):
    """A flag, environment variable, id or configuration file is wrong."""

    code = "bad-settings"


class ModelError(OperatorError):
    """A model file cannot be used, or a model is unknown."""

    code = "bad-model"


class UnknownModelError(ModelError):
    """No manifest under that name, or no device holds it."""

    code = "unknown-model"


class MissingExtraError(OperatorError):
    """An optional dependency is not installed; the text names the pip command."""

    code = "missing-extra"


class BrokerError(OperatorError):
    """The broker cannot be reached or refuses us."""

    code = "no-broker"


# --- nobody must act yet: the mesh could not do it this time ------------------------------------------


class TransientError(EdgemeshError):
    """It may work later, or elsewhere."""

    code = "transient"


class BusyError(TransientError):
    """The queue is full in predicted seconds of work."""

    code = "busy"


class SupersededError(TransientError):
    """A newer frame of the same stream replaced this one."""

    code = "superseded"


class ReplacedError(TransientError):
    """Other content took the model's name after the input had been prepared for the one before."""

    code = "replaced"


class DeadlineError(TransientError):
    """The job did not end before its deadline."""

    code = "deadline"


class NoRouteError(TransientError):
    """No online device can run the model now."""

    code = "no-route"


class RunError(TransientError):
    """An executor failed or died while running units."""

    code = "run-failed"


ERRORS: dict[str, type[EdgemeshError]] = {
    cls.code: cls
    for cls in (
        DecodeError,
        VersionError,
        InputError,
        SettingsError,
        ModelError,
        UnknownModelError,
        MissingExtraError,
        BrokerError,
        BusyError,
        SupersededError,
        ReplacedError,
        DeadlineError,
        NoRouteError,
        RunError,
    )
}


def error_from_code(code: str, text: str) -> EdgemeshError:
    """The error that an error result with ``code`` stands for; unknown codes become ``EdgemeshError``."""
    return ERRORS.get(code, EdgemeshError)(text)


def missing_extra(module: str, extra: str) -> MissingExtraError:
    """The one sentence for an optional dependency that is not installed."""
    return MissingExtraError(
        f"{module} is not installed: run  pip install 'edgemesh[{extra}]'  in this environment"
    )
