"""Attempts: how often a job is sent, and how long it waits where it was refused everywhere."""

from __future__ import annotations

from edgemesh.roles.open_jobs import OpenJob

MAX_ATTEMPTS = 16
MAX_FAILURES = 3
"""Runs of one job that may fail: an input that kills executors must not go round the whole mesh."""
_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 1.0
_LAST_ATTEMPTS = 6


def used_up(job: OpenJob) -> bool:
    """Whether a job is sent no more; hedges and lost connections cost attempts, too."""
    return job.attempts >= MAX_ATTEMPTS or job.failures >= MAX_FAILURES


def backoff(job: OpenJob, now: float) -> float:
    """Seconds until a job is tried again that was refused everywhere: ever longer, the longer it takes.

    The last attempts share the time that is left: a job with an hour can wait for what takes half of it.
    """
    doubled = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2 ** min(job.attempts, 6))
    soon = max(doubled, (now - job.began) / 4.0)
    left = MAX_ATTEMPTS - job.attempts
    share = (job.deadline - now) / (left + 1) if left <= _LAST_ATTEMPTS else 0.0
    return float(max(soon, share))
