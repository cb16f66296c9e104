"""The sentence about what a broker does not take because of its size."""

from __future__ import annotations


def too_large(what: str, nbytes: int, limit: int | None) -> str:
    """``what`` has ``nbytes``; ``limit`` is None where the broker refused it without saying what it takes."""
    most = "" if limit is None else f" ({limit:,} bytes)"
    return (
        f"{what} of {nbytes:,} bytes is more than the broker takes in one message{most}: "
        "raise max_packet_size or message_size_limit of the broker"
    )
