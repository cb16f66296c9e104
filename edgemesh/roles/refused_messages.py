"""What becomes of jobs of which the broker does not take a message: it is too large, or not allowed."""

from __future__ import annotations

from dataclasses import replace

from edgemesh.errors import InputError, NoRouteError, PeerError
from edgemesh.protocol.activation import Activation, Reply, decode_activation, decode_reply
from edgemesh.roles.actions import Publish
from edgemesh.roles.events import Refusal

_TOPIC_CHARS = 80


def too_large(what: str, nbytes: int, limit: int | None) -> str:
    """The sentence about it; ``limit`` is None where the broker did not say what it takes."""
    most = "" if limit is None else f" ({limit:,} bytes)"
    return (
        f"{what} has {nbytes:,} bytes, more than the broker takes in one message{most}: "
        "raise max_packet_size or message_size_limit of the broker"
    )


def why_refused(what: str, message: Publish, refusal: Refusal) -> str:
    """The sentence about a message that the broker refused; ``what`` it is to whom the sentence is for."""
    if refusal.is_for_size:
        return too_large(what, len(message.payload), refusal.limit)
    return f"the broker refuses {what} on {message.topic[:_TOPIC_CHARS]}: {refusal.reason}"


def code_of(refusal: Refusal) -> str:
    """What a job ends with that goes nowhere else: another route has other topics, but not other sizes."""
    return InputError.code if refusal.is_for_size else NoRouteError.code


def is_first_hop(message: Publish, requester: str) -> bool:
    """Whether it is an input that ``requester`` sent, and not an activation that a device passed on."""
    header = _activation(message)
    return header is not None and header.position == 0 and header.requester == requester


def answer(message: Publish, refusal: Refusal, device: str) -> Reply | None:
    """The error reply of ``device`` that takes the place of what it could not send.

    None where the message is of no job, where it is an input, whose requester knows, and for error replies.
    """
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
            why_refused(what, message, refusal),
            header.position,
            header.timings,
        )
    try:
        reply, _ = decode_reply(message.payload)
    except PeerError:
        return None
    if reply.code is not None or reply.device != device:
        return None
    # Whichever device ran it, its result would be as large; to another one the topic may be open.
    return replace(reply, code=code_of(refusal), text=why_refused("the result", message, refusal))


def _activation(message: Publish) -> Activation | None:
    try:
        return decode_activation(message.payload)[0]
    except PeerError:
        return None
