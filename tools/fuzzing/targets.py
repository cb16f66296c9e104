"""What is fuzzed: each reader of bytes that come from outside, with valid inputs to start from."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from edgemesh.errors import DecodeError, InputError, ModelError
from edgemesh.model.tflite_graph import read_graph
from edgemesh.model.tflite_slice import slice_model
from edgemesh.model.tflite_structure import graph_structure
from edgemesh.model.torch_file import graph_of
from edgemesh.model.torch_graph import decode_graph, encode_graph
from edgemesh.model.torch_structure import structure_of
from edgemesh.protocol.activation import decode_activation, decode_reply
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.content import decode_chunk
from edgemesh.protocol.frame import sender_of
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.meter import PlugKind
from edgemesh.protocol.presence import decode_state
from edgemesh.protocol.tensors import decode_tensors, section_bytes
from edgemesh.protocol.topics import Topics
from edgemesh.roles.plug_payloads import plug_report
from edgemesh.runtime.payloads import input_tensors
from fuzzing.network import network_targets
from fuzzing.outputs import output_targets
from fuzzing.programs import program_targets
from fuzzing.target import Target
from fuzzing.texts import text_targets

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "protocol" / "golden"
_TASMOTA, _ZIGBEE, _RELAY = "tele/plug/SENSOR", "zigbee2mqtt/plug", "shellies/plug/relay/0"
_PLUGS: tuple[tuple[PlugKind, str, str, bytes], ...] = (
    ("auto", _TASMOTA, _TASMOTA, b'{"ENERGY":{"Total":1.5,"Power":7}}'),
    ("auto", f"{_RELAY}/power", f"{_RELAY}/power", b"7.25"),
    ("auto", "shelly/status/switch:0", "shelly/status/switch:0", b'{"apower":7.2,"aenergy":{"total":12.5}}'),
    ("auto", _ZIGBEE, _ZIGBEE, b'{"power":7,"energy":1.5,"linkquality":90}'),
    ("tasmota", _TASMOTA, "stat/plug/STATUS10", b'{"StatusSNS":{"ENERGY":{"Total":1.5,"Power":7}}}'),
    ("tasmota", _TASMOTA, "tele/plug/LWT", b"Online"),
    ("shelly-gen1", f"{_RELAY}/power", f"{_RELAY}/energy", b"90"),
    ("shelly-gen1", f"{_RELAY}/power", "shellies/plug/online", b"true"),
    (
        "shelly",
        "shelly/events/rpc",
        "shelly/events/rpc",
        b'{"method":"NotifyStatus","params":{"switch:0":{"apower":7}}}',
    ),
    ("zigbee2mqtt", _ZIGBEE, f"{_ZIGBEE}/availability", b'{"state":"online"}'),
)
"""Kind that was set, topic that was set, topic of the report, and a report."""
_SHAPE = (1, 4, 4, 3)


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
    ]
    others = [*program_targets(), *network_targets(), *text_targets(), *output_targets()]
    return {target.name: target for target in [*own, *others, *_json_targets()]}


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
    """The tensors of the golden activations, and some under each codec."""
    import numpy as np

    arrays = [np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4), np.zeros((0, 3), np.int32)]
    golden = [bytes(decode_activation(payload)[1]) for payload in _golden("activation-")()]
    return golden + [section_bytes(arrays, codec) for codec in CODECS]


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
    """The first byte chooses what was set and where the report came."""
    if not payload:
        return None
    kind, given, topic, _ = _PLUGS[payload[0] % len(_PLUGS)]
    return plug_report(kind, given, topic, payload[1:])


def _plugs() -> list[bytes]:
    return [bytes([number]) + report for number, (_, _, _, report) in enumerate(_PLUGS)]


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
