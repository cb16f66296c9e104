"""One message of every class of the wire contract, and every frame, as the golden files pin them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgemesh.protocol.accuracy import CodecErrors
from edgemesh.protocol.activation import (
    Activation,
    Hop,
    Reply,
    Timing,
    decode_activation,
    decode_reply,
    encode_activation,
    encode_reply,
)
from edgemesh.protocol.answered import Answered, AnsweredSubmission, ToldSubmission
from edgemesh.protocol.assignment import (
    Alternative,
    Assignment,
    Fallback,
    Holder,
    HopPrediction,
    IdleDevice,
    PlanFailure,
    WattsUsed,
)
from edgemesh.protocol.codecs import Array
from edgemesh.protocol.content import ChunkHeader, ChunkRequest, decode_chunk, encode_chunk
from edgemesh.protocol.history import HistoryEntry, HistoryRecord, HistoryRequest, HistoryResponse
from edgemesh.protocol.link import JobReport, LinkReport, Receipt, RunReport, Transfer
from edgemesh.protocol.manifest import (
    AnchorGrid,
    ClassesOutput,
    DetectionsOutput,
    ImageInput,
    Manifest,
    Quantization,
    Unit,
)
from edgemesh.protocol.manifest import TensorSpec as Spec
from edgemesh.protocol.meter import MeterSetting, PlugStatus
from edgemesh.protocol.outcome import HopOutcome, Outcome
from edgemesh.protocol.presence import (
    About,
    CodecSpeed,
    Heartbeat,
    HeldModel,
    MeasuredRun,
    PowerFigures,
    Profile,
    ReadyPartition,
    Resources,
)
from edgemesh.protocol.requests import Pin, PlanRequest, PlanResponse, Policy, Price, Zone
from edgemesh.protocol.result import ResultMessage
from edgemesh.protocol.tensors import decode_tensors, encode_tensors
from edgemesh.protocol.what_if import (
    AddedBoard,
    BatteryChange,
    ExplainRequest,
    ExplainResponse,
    FrontRequest,
    FrontResponse,
    LinkChange,
    LoadChange,
    PlannedRoute,
    SpeedRatio,
    WhatIfRequest,
    WhatIfResponse,
)

DIGEST = "0123456789abcdef" * 4
OTHER_DIGEST = "f" * 64
ROUTE = (Hop("pi-zero", 2, "q8"), Hop("pi-4b", 5, "f16"), Hop("desktop", 9))
TIMINGS = (Timing("pi-zero", 0, 2, 0.0, 0.125, 0.0009765625), Timing("pi-4b", 2, 5, 0.5, 0.25, 0.001))

MANIFEST = Manifest(
    name="face",
    digest=DIGEST,
    format="tflite",
    size=700_000,
    units=(Unit("stem", 3, 1_000_000, 864, 147_456), Unit("head", 12, 0, 69_000, 200_000)),
    boundaries=(
        (Spec("image", "float32", (1, 128, 128, 3)),),
        (Spec("a", "float32", (1, 64, 64, 24)), Spec("b", "int64", ())),
        (Spec("boxes", "float32", (1, 896, 16)), Spec("scores", "float32", (1, 896, 1))),
    ),
    chunk_bytes=512 * 1024,
    chunks=(DIGEST, OTHER_DIGEST),
    image=ImageInput(128, 128, fit="letterbox", mean=(127.5,), scale=(1.0 / 127.5,)),
    classes=ClassesOutput("scores", top_k=3, activation="softmax", labels=("Gesicht", "größer", "脸")),
    detections=DetectionsOutput(
        "boxes",
        "scores",
        anchors=(AnchorGrid(16, 16, 2), AnchorGrid(8, 8, 6)),
        labels=("face",),
        landmarks=("right eye", "left eye"),
        box_span=128.0,
    ),
    codec_errors=(
        CodecErrors(
            "f16",
            error=(None, 0.00025, None),
            largest=(None, 0.125, None),
            agreement=(None, 1.0, None),
            samples=8,
            inputs="the demo's photograph and 7 variations of it",
        ),
    ),
)

QUANTISED_MANIFEST = replace(
    MANIFEST,
    boundaries=(
        *MANIFEST.boundaries[:-1],
        (Spec("boxes", "int8", (1, 896, 16)), Spec("scores", "uint8", (1, 896, 1))),
    ),
    classes=ClassesOutput("scores", quantization=Quantization(0.00390625)),
    detections=replace(
        MANIFEST.detections,
        boxes_quantization=Quantization(0.5, -3),
        scores_quantization=Quantization(0.00390625, 0),
    ),
)

JSON_MESSAGES: dict[str, Any] = {
    "about": About(
        boot="b-1f",
        software="edgemesh 0.1.0",
        board="pi-4b",
        runtimes={"tflite": "2.14.0", "torch": "2.13.0"},
        threads=4,
        memory_bytes=2 << 30,
        models=(HeldModel("face", DIGEST),),
        emulated=True,
        codecs=(CodecSpeed("q8+zstd", 2.5e-09, 1e-09),),
    ),
    "heartbeat": Heartbeat("b-1f", 7, 2, 0.25, 0.5, (ReadyPartition(DIGEST, 2, 5),)),
    "heartbeat-least": Heartbeat("b-1f", 0, 0, 0.0, 0.0),
    "resources": Resources(
        cpu=0.75,
        memory_total=1 << 30,
        memory_available=1 << 29,
        temperature=-3.5,
        throttled=("under-voltage", "soft temperature limit"),
        watts=4.5,
        watts_source="ina219",
        battery=1.0,
        on_battery=False,
        power=PowerFigures(2.5, 6.25, 0.5, "plug tasmota", True, error=0.0625, check=1.125),
        plug=PlugStatus("tele/desk/SENSOR", "tasmota", "reporting", 4.5, 11_466_000.0, 12.5, "no number"),
        power_notes=("rapl: only root may read it",),
        own=0.125,
    ),
    "meter-setting": MeterSetting("zigbee2mqtt/desk", "zigbee2mqtt"),
    "resources-least": Resources(0.0, 0, 0),
    "profile": Profile(
        digest=DIGEST,
        runtime="tflite",
        runtime_version="2.14.0",
        threads=4,
        seconds=(0.001, 0.25),
        spread=(0.0, 1e-05),
        runs=(MeasuredRun(0, 2, 0.25),),
    ),
    "link-report": LinkReport(
        boot="b-1f",
        transfers=(Transfer("received", 5000, 0.0625, "pi-4b"), Transfer("echoed", 100, 0.5)),
        runs=(RunReport(DIGEST, 0, 2, 0.125), RunReport(DIGEST, 3, 4, 0.0625, probe=True)),
        jobs=(
            JobReport("face", DIGEST, "app", 3, 14, 0.75, 2, TIMINGS, 0.0625),
            JobReport("face", DIGEST, "pi-zero", 3, 14, 30.0, code="deadline"),
        ),
        more_jobs=9,
    ),
    "link-report-least": LinkReport("b-1f", ()),
    "outcome": Outcome(
        model="face",
        origin="pi-zero",
        term=3,
        sequence=14,
        jobs=120,
        failed=1,
        retried=2,
        predicted=0.25,
        seconds=0.28125,
        mape=0.125,
        compared=100,
        hops=(
            HopOutcome("pi-zero", 0, 2, 0.125, 0.1875, 0.0, 0.0),
            HopOutcome("pi-4b", 2, 5, 0.03125, 0.03125, 0.001, 0.0),
        ),
        predicted_transfer=0.09375,
        transfer=0.0625,
    ),
    "outcome-least": Outcome("face", "app", 1, 1, 0, 0, 0, 0.5),
    "receipt": Receipt("j-1", 0, "pi-4b"),
    "manifest": MANIFEST,
    "manifest-quantised": QUANTISED_MANIFEST,
    "assignment": Assignment(
        term=3,
        sequence=14,
        model="face",
        digest=DIGEST,
        origin="pi-zero",
        objective="energy within 0.2 s",
        route=ROUTE,
        hops=(
            HopPrediction("pi-zero", 0, 2, 0.0, 0.0, 0.125, 0),
            HopPrediction("pi-4b", 2, 5, 0.0625, 0.001, 0.03125, 98_304, 0.25),
            HopPrediction("desktop", 5, 9, 0.0625, 0.0, 0.0078125, 4096),
        ),
        return_seconds=0.002,
        seconds=0.29,
        reason="pi-4b answers 12 % faster than before",
        fallbacks=(Fallback("pi-4b", (Hop("pi-zero", 9),), 1.5),),
        runners_up=(Alternative("all on desktop", (Hop("desktop", 9),), 0.31, 1.5),),
        idle=(IdleDevice("laptop", "its link costs more than it saves"),),
        estimates_age=12.5,
        emulated=("pi-4b",),
        joules=0.75,
        bound=0.3,
        money=0.00001,
        bottleneck=0.125,
        uncertainty=0.05,
        proven=False,
        watts=(WattsUsed("pi-4b", 3.5, 0.5, "board pi-4b"),),
        binding="the bound of 300 ms binds: without it 0.5 J instead of 0.75 J",
        notes=("no watts are known of desktop: the median of the others is taken",),
        changes=2,
        since=1_700_000_000.5,
        at_once=True,
    ),
    "answered": Answered(
        (AnsweredSubmission(7, 3_735_928_559), AnsweredSubmission(9, 0)),
        (ToldSubmission(12, 1, "b-7-3"), ToldSubmission(13, 2, "b-7-4", "{}")),
    ),
    "holder": Holder("online", "pi-4b", "b-1f", 3),
    "plan-failure": PlanFailure(
        "face", "app", "pinned", "unit 0 is pinned to camera, which is offline", ROUTE, 1_700_000_000.0
    ),
    "policy-least": Policy(),
    "policy": Policy(
        codecs=("raw", "q8"),
        pins=(Pin(0, 1, "pi-zero", ("pi-4b",)), Pin(1, 3, zone="home"), Pin(3, 4, "pi-4b", never=True)),
        exclude=("laptop",),
        keep_input=True,
        objective="energy",
        bound_factor=1.5,
        bound_seconds=0.25,
        in_flight=4,
        zones=(Zone("home", ("pi-zero", "pi-4b")),),
        battery_floor=0.25,
        max_temperature=80.0,
        battery_weight=2.0,
        mains_weight=0.0,
        prices=(Price("cloud", 0.00001, 0.09),),
        changed_by="eva@desk",
    ),
    "plan-request": PlanRequest("r-1", "face", "app", 3, 7),
    "plan-response": PlanResponse("r-1", "face", "app", False, "no device holds model face", soon=True),
    "what-if-request": WhatIfRequest(
        requester="r-1",
        model="face",
        origin="app",
        off=("laptop",),
        links=(LinkChange("pi-zero", "up", 625_000.0), LinkChange("pi-4b", delay=0.25)),
        loads=(LoadChange("desktop", 0.75),),
        batteries=(BatteryChange("pi-zero", 0.125),),
        added=(
            AddedBoard(
                device="pi-5",
                board="pi-5",
                memory_bytes=5_000_000_000,
                macs_per_second=20.8e9,
                idle_watts=2.75,
                busy_watts=9.75,
                radio_watts=0.5,
                up_bytes_per_second=23_250_000.0,
                down_bytes_per_second=23_250_000.0,
                delay=0.0015,
                faster_than=(SpeedRatio("pi-4b", 3.0),),
            ),
        ),
    ),
    "what-if-response": WhatIfResponse(
        requester="r-1",
        model="face",
        origin="app",
        now=PlannedRoute((Hop("desktop", 9),), 0.25, 0.5),
        then=PlannedRoute(
            (Hop("pi-5", 9),),
            0.125,
            0.25,
            0.001,
            (HopPrediction("pi-5", 0, 9, 0.0625, 0.0, 0.0625, 4096),),
        ),
        kept=PlannedRoute((Hop("desktop", 9),), 0.5, 0.5),
        text="a job would take 125.0 ms instead of 250.0 ms",
        notes=("pi-5: times of pi-4b divided by 3",),
    ),
    "front-request": FrontRequest("r-1", "face", "app"),
    "front-response": FrontResponse(
        requester="r-1",
        model="face",
        origin="app",
        objective="bounded-energy",
        bound=0.3125,
        points=(PlannedRoute((Hop("desktop", 9),), 0.25, 2.0), PlannedRoute((Hop("pi-zero", 9),), 1.5, 0.5)),
        total=2,
        in_force=PlannedRoute((Hop("desktop", 9),), 0.25, 2.0),
        singles=(PlannedRoute((Hop("pi-4b", 9),), 0.5, 2.5),),
    ),
    "explain-request": ExplainRequest("r-1", "face", "app"),
    "explain-response": ExplainResponse("r-1", "face", "app", text="the memory of pi-zero binds"),
    "history-request": HistoryRequest("r-1", "face", 3600.0, 50),
    "history-response": HistoryResponse(
        requester="r-1",
        entries=(
            HistoryEntry(
                1.5,
                HistoryRecord(
                    "outcome",
                    "face",
                    "of the last 100 jobs",
                    origin="app",
                    term=3,
                    sequence=14,
                    objective="bounded-energy",
                    route=ROUTE,
                    seconds=0.25,
                    joules=0.75,
                    measured=0.28125,
                    error=0.0625,
                    jobs=100,
                    failed=1,
                ),
            ),
            HistoryEntry(60.0, HistoryRecord("policy", "face", "never a", who="eva@desk", before="nothing")),
        ),
        truncated=True,
    ),
    "chunk-request": ChunkRequest("pi-4b", 1),
    "result": ResultMessage(
        job="j-1",
        model="face",
        seconds=0.25,
        outputs={"detections": [{"label": "face", "score": 0.5, "box": [1, 2.5, 3, 4]}], "note": None},
        route=ROUTE,
        timings=TIMINGS,
        attempts=2,
    ),
    "result-error": ResultMessage("j-2", "face", 10.0, code="deadline", error="the job did not end in 10 s"),
}
"""By the name of their golden file."""

ACTIVATION = Activation(
    job="j-1",
    requester="r-1",
    model="face",
    digest=DIGEST,
    position=5,
    route=ROUTE,
    attempt=1,
    left=1.5,
    sender="pi-4b",
    receipt=True,
    stream="camera",
    timings=TIMINGS,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
LEAST_ACTIVATION = Activation("j-1", "r-1", "face", DIGEST, 0, (Hop("pi-4b", 1),), 0, 0.0, "r-1")
REPLY = Reply("j-1", "r-1", 1, "desktop", position=9, timings=TIMINGS)
ERROR_REPLY = Reply("j-1", "r-1", 1, "desktop", "busy", "desktop has 5.1 s of work waiting", 5)


def one_tensor() -> list[Array]:
    return [np.arange(12, dtype=np.float32).reshape(3, 4) / 4 - 1]


def many_tensors() -> list[Array]:
    """Every dtype, a scalar, an empty one, channels last, and another permutation."""
    pixels = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    return [
        pixels.transpose(0, 3, 1, 2),
        np.arange(24, dtype=np.int64).reshape(2, 3, 4).transpose(2, 1, 0),
        np.array(2.5, dtype=np.float64),
        np.zeros((0, 3), dtype=np.int32),
        np.array([-1.5, np.nan, np.inf], dtype=np.float16),
        np.array([-128, 127], dtype=np.int8),
        np.array([0, 255], dtype=np.uint8),
        np.array([-2, 2], dtype=np.int16),
        np.array([1, 2], dtype=np.uint16),
        np.array([3], dtype=np.uint32),
        np.array([1 << 63], dtype=np.uint64),
        np.array([True, False]),
        np.array([1 + 2j], dtype=np.complex64),
    ]


@dataclass(frozen=True)
class Frame:
    """A binary golden message: how it is encoded, read, and what the reader finds."""

    header: Any
    encode: Callable[[], bytes]
    decode: Callable[[bytes], tuple[Any, memoryview]]
    arrays: Callable[[], list[Array]] | None = None
    codec: str = "raw"


def activation_frame(header: Activation, arrays: Callable[[], list[Array]], codec: str) -> Frame:
    return Frame(
        header,
        lambda: encode_activation(header, encode_tensors(arrays(), codec)),
        decode_activation,
        arrays,
        codec,
    )


FRAMES: dict[str, Frame] = {
    "activation-least": activation_frame(LEAST_ACTIVATION, list, "raw"),
    **{
        f"activation-{codec}-{name}": activation_frame(ACTIVATION, arrays, codec)
        for codec in ("raw", "f16", "q8")
        for name, arrays in (("one", one_tensor), ("many", many_tensors))
    },
    "reply": Frame(
        REPLY, lambda: encode_reply(REPLY, encode_tensors(one_tensor())), decode_reply, one_tensor
    ),
    "reply-error": Frame(ERROR_REPLY, lambda: encode_reply(ERROR_REPLY), decode_reply),
    "chunk": Frame(
        ChunkHeader(DIGEST, 1), lambda: encode_chunk(ChunkHeader(DIGEST, 1), bytes(range(200))), decode_chunk
    ),
}


def decoded_arrays(frame: Frame, body: memoryview) -> list[Array]:
    return decode_tensors(body) if frame.arrays is not None else []
