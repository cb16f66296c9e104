"""The gateway's node: its role, with pictures decoded and results rendered beside the loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from edgemesh.errors import BusyError, DecodeError, EdgemeshError, InputError, SettingsError
from edgemesh.node.forgetful_pool import ForgetfulPool
from edgemesh.node.rendering import rendered
from edgemesh.node.role_holder import RoleHolder, RoleSpec
from edgemesh.node.shell import Shell
from edgemesh.protocol.ids import checked_id, is_id
from edgemesh.protocol.tensors import section_bytes
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import DecodeInput, JobEnded, RenderResult
from edgemesh.roles.events import Event, InputDecoded, InputRefused, ResultRendered
from edgemesh.roles.gateway import Gateway
from edgemesh.transport.broker_search import Whereabouts

_SESSION_SECONDS = 3600
_RECEIVE_MAXIMUM = 200
"""Submissions that may be open at once; Mosquitto honours it beyond its own default of 20 (measured)."""
_PLACEMENTS = 1024


class GatewayNode:
    """Start it on a running loop; ``stop`` ends it cleanly."""

    def __init__(
        self, mesh: str, name: str, slot: str, broker: Whereabouts, loop: asyncio.AbstractEventLoop
    ) -> None:
        topics = Topics(mesh)
        _check_slot(slot)
        self._loop = loop
        self._pool = ForgetfulPool(2, "edgemesh-image")
        self._placements: OrderedDict[str, Any] = OrderedDict()
        self._shell: Shell | None = None
        spec = RoleSpec(
            f"gateway {slot}",
            f"{mesh}-gateway-{slot}",
            topics.build("gateway", slot=slot),
            _SESSION_SECONDS,
            True,
            _RECEIVE_MAXIMUM,
            # Job ids carry the boot id of the holding: a reply to an earlier one must miss.
            lambda term, boot: Gateway(slot, name, boot, term, topics),
            self._wire,
        )
        self._holder = RoleHolder(spec, topics, broker, loop)

    def start(self) -> None:
        """Stand by for the slot and take it when it is free."""
        self._holder.start()

    async def stop(self) -> None:
        """Leave the slot."""
        await self._holder.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _wire(self, shell: Shell) -> None:
        self._shell = shell
        shell.handle_also({DecodeInput: self._decode, RenderResult: self._render})

    def _decode(self, action: DecodeInput) -> None:
        # A 12-megapixel photograph takes 0.1 s to decode: not on the loop.
        try:
            future = self._loop.run_in_executor(self._pool, self._decoded, action)
        except RuntimeError as error:  # a small board has few threads to give
            text = f"the gateway has no thread to read it in ({error}): submit it again"
            self._loop.call_soon(self._deliver, InputRefused(action.job, BusyError.code, text))
            return
        # Cancelled is what still waits when we stop.
        future.add_done_callback(lambda done: None if done.cancelled() else self._deliver(done.result()))

    def _decoded(self, action: DecodeInput) -> Event:
        try:
            from edgemesh.runtime.payloads import input_tensors

            inputs = input_tensors(action.manifest, bytes(action.payload), action.content_type)
            section = section_bytes(inputs.tensors)
        except EdgemeshError as error:
            return InputRefused(action.job, error.code, str(error))
        except MemoryError:
            text = "the gateway has no memory to read it in: submit it again"
            return InputRefused(action.job, BusyError.code, text)
        # The edge to image and array libraries: whatever they raise on hostile bytes is the input's fault.
        except Exception as error:
            return InputRefused(
                action.job, InputError.code, f"unreadable input: {type(error).__name__}: {error}"
            )
        self._placements[action.job] = inputs.placement
        if len(self._placements) > _PLACEMENTS:
            self._placements.popitem(last=False)
        return InputDecoded(action.job, section)

    def _render(self, action: RenderResult) -> None:
        placement = self._placements.pop(action.job, None)
        try:
            payload = rendered(action.ended, action.manifest, placement)
        except DecodeError as error:
            payload = rendered(_failed(action.ended, str(error)), None, None)
        # The edge to array libraries: a submission without a result would never be acknowledged.
        except Exception as error:
            text = f"unreadable outputs: {type(error).__name__}: {str(error)[:300]}"
            payload = rendered(_failed(action.ended, text), None, None)
        # Not from within the carrying out of other actions: the order of a role's actions stays its own.
        self._loop.call_soon(self._deliver, ResultRendered(action.job, payload))

    def _deliver(self, event: Event) -> None:
        if self._shell is not None:
            self._shell.deliver(event)


def _check_slot(slot: str) -> None:
    """Now, and not when the role is taken: as a requester its gateway has a name of its own."""
    checked_id(slot, "slot")
    if not is_id(requester := f"gateway-{slot}"):
        raise SettingsError(
            f"slot {slot!r} is too long: its gateway would be called {requester}, and names have at most 63 "
            "characters"
        )


def _failed(ended: JobEnded, text: str) -> JobEnded:
    return replace(ended, code=DecodeError.code, text=text, section=b"")
