"""What becomes of jobs of which a message is larger than the broker takes."""

from __future__ import annotations

from dataclasses import replace

from edgemesh.errors import InputError, NoRouteError, PeerError
from edgemesh.protocol.activation import Activation, Reply, decode_activation, decode_reply
from edgemesh.roles.actions import Publish


def too_large(what: str, nbytes: int, limit: int | None) -> str:
    """The sentence about it; ``limit`` is None where the broker did not say what it takes."""
    most = "" if limit is None else f" ({limit:,} bytes)"
    return (
        f"{what} has {nbytes:,} bytes, more than the broker takes in one message{most}: "
        "raise max_packet_size or message_size_limit of the broker"
    )


def is_first_hop(message: Publish, requester: str) -> bool:
    """Whether it is an input that ``requester`` sent, and not an activation that a device passed on."""
    header = _activation(message)
    return header is not None and header.position == 0 and header.requester == requester


def answer(message: Publish, limit: int | None, device: str) -> Reply | None:
    """The error reply of ``device`` that takes the place of what it could not send.

    None where the message is of no job, where it is an input, whose requester knows, and for error replies.
    """
    nbytes = len(message.payload)
    header = _activation(message)
    if header is not None:
        if header.position == 0 or header.sender != device:
            return None
        what = f"the activation from {device} to {header.route[header.hop_index].device}"
        return Reply(
            header.job,
            header.requester,
            header.attempt,
            device,
            NoRouteError.code,  # another route may cut the model elsewhere, or nowhere
            too_large(what, nbytes, limit),
            header.position,
            header.timings,
        )
    try:
        reply, _ = decode_reply(message.payload)
    except PeerError:
        return None
    if reply.code is not None or reply.device != device:
        return None
    # Final: whichever device ran it, its result would be as large.
    return replace(reply, code=InputError.code, text=too_large("the result", nbytes, limit))


def _activation(message: Publish) -> Activation | None:
    try:
        return decode_activation(message.payload)[0]
    except PeerError:
        return None
