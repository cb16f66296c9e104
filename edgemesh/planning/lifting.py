"""The constraints of an instance, each lifted alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from edgemesh.planning.instance import Instance, raw_at_both_ends
from edgemesh.planning.wording import as_bytes, listed


def lifted(instance: Instance) -> Iterator[tuple[str, Instance]]:
    """What is lifted, in words that begin a sentence, and the instance without it."""
    for index, pin in enumerate(instance.pins):
        names = listed((instance.devices[device].id for device in sorted(pin.devices)), " or ")
        what = f"the pin of units {pin.start} to {pin.stop - 1} to {names}"
        if (pin.start, pin.stop) == (0, 1) and pin.devices == frozenset({instance.origin}):
            what = f"keeping the raw input on {names}"
        pins = (*instance.pins[:index], *instance.pins[index + 1 :])
        yield what, dataclasses.replace(instance, pins=pins)
    everything = raw_at_both_ends(instance.unit_count, len(instance.codecs)) | instance.codec_allowed
    if not (everything == instance.codec_allowed).all():
        yield "what codecs are allowed", dataclasses.replace(instance, codec_allowed=everything)
    for device in sorted(instance.excluded):
        left = dataclasses.replace(instance, excluded=instance.excluded - {device})
        yield f"the exclusion of {instance.devices[device].id}", left
    whole = float(instance.weight_bytes.sum() + instance.peak_bytes.max())
    for index, spec in enumerate(instance.devices):
        if spec.memory_limit < whole and instance.may_run[index].any():
            roomy = list(instance.devices)
            roomy[index] = dataclasses.replace(spec, memory_limit=math.inf)
            what = f"the memory of {spec.id}, {as_bytes(spec.memory_limit)} of the {as_bytes(whole)} needed,"
            yield what, dataclasses.replace(instance, devices=tuple(roomy))
