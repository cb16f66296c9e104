"""What is fuzzed: each reader of bytes that come from outside, with valid inputs to start from."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from edgemesh.errors import DecodeError, EdgemeshError, InputError, ModelError, SettingsError, VersionError
from edgemesh.model.tflite_graph import read_graph
from edgemesh.model.tflite_slice import slice_model
from edgemesh.model.tflite_structure import graph_structure
from edgemesh.model.torch_file import graph_of
from edgemesh.model.torch_graph import decode_graph, encode_graph
from edgemesh.model.torch_structure import structure_of
from edgemesh.protocol.activation import decode_activation, decode_reply
from edgemesh.protocol.content import decode_chunk
from edgemesh.protocol.frame import sender_of
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import decode_state
from edgemesh.protocol.tensors import decode_tensors
from edgemesh.protocol.topics import Topics
from edgemesh.roles.plug_payloads import plug_report
from edgemesh.runtime.payloads import input_tensors
from edgemesh.simulation.scenario_file import parse_scenario

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "protocol" / "golden"
_PLUG_TOPICS = (
    "tele/plug/SENSOR",
    "shellies/plug/relay/0/power",
    "shelly/status/switch:0",
    "zigbee2mqtt/plug",
)
_SHAPE = (1, 4, 4, 3)
_SCENARIOS = ("calm.toml", "wifi-swings.toml")


@dataclass(frozen=True)
class Target:
    """One reader. It may refuse what it reads, with one of ``refusals`` and with nothing else."""

    name: str
    read: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    refusals: tuple[type[EdgemeshError], ...] = (DecodeError, VersionError)
    most_bytes: int = 4096
    """Of an input: small ones are tried more often, and what is wrong with a reader shows in them."""

    def outcome(self, payload: bytes) -> object:
        """What ``read`` says, or the refusal; whatever else is raised is a finding."""
        try:
            return self.read(payload)
        except self.refusals as refusal:
            assert str(refusal), "a refusal must say why"
            assert len(str(refusal)) < 2000, "a refusal must not repeat what it was sent"
            return refusal


def targets() -> dict[str, Target]:
    """All of them, by name."""
    own = [
        Target("activation", _frame(decode_activation), _golden("activation")),
        Target("reply", _frame(decode_reply), _golden("reply")),
        Target("tensors", decode_tensors, _sections),
        Target("chunk", decode_chunk, _golden("chunk")),
        Target("sender", sender_of, _golden("")),
        Target("state", decode_state, lambda: [b"online", b"stopped", b"offline"]),
        Target("topic", _topic, _topics),
        Target("plug", _plug, _plugs),
        Target("input", _input, _inputs, (InputError, DecodeError), 1 << 16),
        Target("tflite", _sliced, _tflite, (ModelError, DecodeError), 1 << 15),
        Target("safetensors", _captured, _torch, (ModelError, DecodeError), 1 << 15),
        Target("graph", _graph, _graphs, (ModelError, DecodeError), 1 << 14),
        Target("scenario", _scenario, _scenarios, (SettingsError,)),
    ]
    return {target.name: target for target in [*own, *_json_targets()]}


# --- messages --------------------------------------------------------------------------------------------


def _json_targets() -> list[Target]:
    """One for each class of JSON message that has a golden file."""
    from tests.protocol.messages import JSON_MESSAGES

    seeds: dict[type, list[str]] = {}
    for name, message in JSON_MESSAGES.items():
        seeds.setdefault(type(message), []).append(name)
    return [
        Target(
            cls.__name__.lower(),
            lambda payload, cls=cls: decode_json(cls, payload),
            lambda names=names: [(GOLDEN / f"{name}.json").read_bytes() for name in names],
        )
        for cls, names in sorted(seeds.items(), key=lambda item: item[0].__name__)
    ]


def _golden(kind: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted(GOLDEN.glob(f"{kind}*.bin"))]


def _frame(decode: Callable[[bytes], tuple[Any, memoryview]]) -> Callable[[bytes], object]:
    """Header and tensors, as a worker reads them."""

    def read(payload: bytes) -> object:
        header, section = decode(payload)
        return header, decode_tensors(section) if section else None

    return read


def _sections() -> list[bytes]:
    """The tensors of the golden activations."""
    return [bytes(decode_activation(payload)[1]) for payload in _golden("activation-")()]


def _topic(payload: bytes) -> object:
    return Topics("home").parse(payload.decode("utf-8", "replace"))


def _topics() -> list[bytes]:
    topics = Topics("home")
    return [
        topics.build("work", device="pi").encode(),
        topics.build("assignment", model="face", origin="app").encode(),
        topics.build("submit", model="face").encode(),
    ]


# --- what is not ours ------------------------------------------------------------------------------------


def _plug(payload: bytes) -> object:
    """The first byte chooses the kind of plug."""
    if not payload:
        return None
    topic = _PLUG_TOPICS[payload[0] % len(_PLUG_TOPICS)]
    return plug_report("auto", topic, topic, payload[1:])


def _plugs() -> list[bytes]:
    bodies = (
        b'{"ENERGY":{"Total":1.5,"Power":7}}',
        b"7.25",
        b'{"apower":7.2,"aenergy":{"total":12.5}}',
        b'{"power":7,"energy":1.5,"linkquality":90}',
    )
    return [bytes([number]) + body for number, body in enumerate(bodies)]


def _input(payload: bytes) -> object:
    return input_tensors(_picture_model(), payload).tensors


@cache
def _picture_model() -> Manifest:
    """One that takes pictures of 4 x 4 pixels."""
    whole = decode_json(Manifest, (GOLDEN / "manifest.json").read_bytes())
    assert whole.image is not None
    small = replace(whole.boundaries[0][0], shape=_SHAPE)
    image = replace(whole.image, width=_SHAPE[2], height=_SHAPE[1])
    return replace(whole, image=image, boundaries=((small,), *whole.boundaries[1:]))


def _inputs() -> list[bytes]:
    """Pictures, an npy file and bare bytes."""
    import numpy as np
    from PIL import Image

    seeds = []
    for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP"):
        file = io.BytesIO()
        Image.new("RGB", (8, 6), (200, 30, 30)).save(file, kind)
        seeds.append(file.getvalue())
    tensor = np.zeros(_SHAPE, np.float32)
    file = io.BytesIO()
    np.save(file, tensor)
    return [*seeds, file.getvalue(), tensor.tobytes()]


# --- models ----------------------------------------------------------------------------------------------


def _sliced(payload: bytes) -> object:
    """Read a tflite model, find its cuts, and cut it in the middle."""
    graph = read_graph(payload)
    structure = graph_structure(graph)
    end = len(structure.units)
    middle = max(1, end // 2)
    slice_model(graph, structure, 0, middle)
    return slice_model(graph, structure, min(middle, end - 1), end)


def _tflite() -> list[bytes]:
    """One unit without weights, and four that have some."""
    from tests.tflite_models import ModelBuilder, chain

    builder = ModelBuilder()
    tensors = [builder.tensor((2, 8))]
    for _ in range(4):
        weights, output = builder.tensor(data=[[0.5] * 8] * 8), builder.tensor((2, 8))
        builder.operator(
            "FULLY_CONNECTED", [tensors[-1], weights, -1], [output], ("FullyConnectedOptions", {})
        )
        tensors.append(output)
    builder.ends([tensors[0]], [tensors[-1]])
    return [chain("RELU", "TANH").content(), builder.content()]


def _captured(payload: bytes) -> object:
    """Read the header of a torch model and find its cuts."""
    return structure_of(graph_of(io.BytesIO(payload), len(payload)))


def _graph(payload: bytes) -> object:
    """The text of a torch model's graph, which is hard to reach through the lengths around it."""
    return structure_of(decode_graph(payload.decode("utf-8", "replace")))


def _graphs() -> list[bytes]:
    from tests.model.torch_graphs import graph

    return [encode_graph(graph()).encode()]


def _torch() -> list[bytes]:
    from tests.model.torch_graphs import content

    return [content()]


# --- files that people write -----------------------------------------------------------------------------


def _scenario(payload: bytes) -> object:
    return parse_scenario(payload.decode("utf-8", "replace"), "fuzzed", "the scenario")


def _scenarios() -> list[bytes]:
    from importlib.resources import files

    folder = files("edgemesh.simulation") / "scenarios"
    return [(folder / name).read_bytes() for name in _SCENARIOS]
