"""Hypothesis strategies for messages, derived from the fields of their dataclasses."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, Union

import numpy as np
from hypothesis import strategies as st

from edgemesh.protocol.accuracy import CodecErrors
from edgemesh.protocol.activation import Activation, CodecName, Cut, Hop
from edgemesh.protocol.assignment import Alternative, Assignment, Fallback
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.fields import Check, Digest, Id
from edgemesh.protocol.manifest import DTYPE_BYTES, Manifest, TensorSpec, Unit
from edgemesh.protocol.meter import PlugTopic
from edgemesh.protocol.presence import MeasuredRun, PowerFigures, Profile
from edgemesh.protocol.requests import Pin

T = TypeVar("T")

_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"
# Most of them short: a message has dozens, and each letter is a choice of its own.
IDS = st.builds(
    str.__add__, st.sampled_from(_ID_LETTERS[:-1]), st.text(_ID_LETTERS, max_size=3)
) | st.sampled_from([63 * "a", "0" + 62 * "-"])
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)

_NAMED: dict[Any, st.SearchStrategy[Any]] = {
    Id: IDS,
    Digest: DIGESTS,
    Cut: st.integers(0, 1024),
    CodecName: st.sampled_from(sorted(CODECS)),
    PlugTopic: st.from_regex(r"[a-z0-9 ]{1,9}(/[a-zA-Z0-9:ü-]{1,9}){0,3}", fullmatch=True).filter(
        lambda topic: not topic.startswith("edgemesh/")
    ),
    bool: st.booleans(),
    int: st.integers(-(1 << 63), (1 << 63) - 1),
    float: NUMBERS,
    str: TEXTS,
    Any: PLAIN,
}


def messages(cls: type[T]) -> st.SearchStrategy[T]:
    """Valid messages of ``cls``."""
    return st.composite(_draw)(cls)


def _draw(draw: st.DrawFn, cls: type[T], fixed: dict[str, Any] | None = None) -> T:
    hints = typing.get_type_hints(cls, vars(sys.modules[cls.__module__]), include_extras=True)
    values = _TOGETHER[cls](draw) if cls in _TOGETHER else {}
    if {"start", "stop"} <= set(hints):
        values["start"], values["stop"] = sorted(
            draw(st.lists(st.integers(0, 1024), min_size=2, max_size=2, unique=True))
        )
    values.update(fixed or {})
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in values:
            values[field.name] = draw(_strategy(hints[field.name]))
    return cls(**values)


def _route(draw: st.DrawFn, end: int) -> tuple[Hop, ...]:
    stops = sorted(draw(st.sets(st.integers(1, end), max_size=4)) | {end})
    return tuple(Hop(draw(IDS), stop, draw(_NAMED[CodecName])) for stop in stops)


_ROUTES = st.composite(lambda draw: _route(draw, draw(st.integers(1, 1024))))()


def _activation(draw: st.DrawFn) -> dict[str, Any]:
    route = draw(_ROUTES)
    return {"route": route, "position": draw(st.integers(0, route[-1].stop - 1))}


def _assignment(draw: st.DrawFn) -> dict[str, Any]:
    end = draw(st.integers(1, 1024))
    return {
        "route": _route(draw, end),
        "fallbacks": tuple(_draw(draw, Fallback, {"route": _route(draw, end)}) for _ in range(2)),
        "runners_up": (_draw(draw, Alternative, {"route": _route(draw, end)}),),
    }


def _profile(draw: st.DrawFn) -> dict[str, Any]:
    units = draw(st.integers(1, 5))
    seconds = st.floats(1e-6, 86_400.0)
    run = MeasuredRun(draw(st.integers(0, units - 1)), units, draw(seconds))
    return {
        "seconds": tuple(draw(seconds) for _ in range(units)),
        "spread": tuple(draw(seconds) for _ in range(units * draw(st.integers(0, 1)))),
        "runs": (run,),
    }


def _power(draw: st.DrawFn) -> dict[str, Any]:
    idle, busy = sorted(draw(st.lists(st.floats(0.0, 10_000.0), min_size=2, max_size=2)))
    return {"idle_watts": idle, "busy_watts": busy}


def _manifest(draw: st.DrawFn) -> dict[str, Any]:
    units, chunk_bytes, chunks = draw(st.tuples(st.integers(1, 3), st.integers(1, 4096), st.integers(1, 3)))
    specs = st.builds(
        TensorSpec,
        TEXTS,
        st.sampled_from(sorted(DTYPE_BYTES)),
        st.lists(st.integers(0, 9), max_size=8).map(tuple),
    )
    return {
        "units": tuple(_draw(draw, Unit) for _ in range(units)),
        "boundaries": tuple(tuple(draw(st.lists(specs, min_size=1, max_size=3))) for _ in range(units + 1)),
        "chunk_bytes": chunk_bytes,
        "size": draw(st.integers((chunks - 1) * chunk_bytes + 1, chunks * chunk_bytes)),
        "chunks": tuple(draw(DIGESTS) for _ in range(chunks)),
        # What they declare has to fit the tensors: the golden manifest has one of each.
        "image": None,
        "classes": None,
        "detections": None,
        "codec_errors": tuple(
            _codec_errors(draw, codec, units + 1) for codec in draw(st.sets(IDS, max_size=3))
        ),
    }


def _codec_errors(draw: st.DrawFn, codec: str, cuts: int) -> CodecErrors:
    def figures(most: float) -> tuple[float | None, ...]:
        return tuple(draw(st.none() | st.floats(0.0, most)) for _ in range(cuts))

    return CodecErrors(codec, figures(1e300), figures(1e300), figures(1.0), draw(st.integers(0, 1 << 52)))


def _pin(draw: st.DrawFn) -> dict[str, Any]:
    named = draw(st.booleans())
    return {"device": draw(IDS) if named else None, "zone": None if named else draw(IDS)}


_TOGETHER: dict[type, Callable[[st.DrawFn], dict[str, Any]]] = {
    Activation: _activation,
    Assignment: _assignment,
    Manifest: _manifest,
    Pin: _pin,
    PowerFigures: _power,
    Profile: _profile,
}
"""Fields that must fit each other, by class."""


def _strategy(hint: Any) -> st.SearchStrategy[Any]:
    if hint in _NAMED:
        return _NAMED[hint]
    if hint == tuple[Hop, ...]:
        return _ROUTES
    if dataclasses.is_dataclass(hint):
        return messages(hint)  # type: ignore[arg-type]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _checked(args[0], [check for check in args[1:] if isinstance(check, Check)])
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, types.UnionType):
        return st.none() | _strategy(args[0])
    if origin is tuple:
        return st.lists(_strategy(args[0]), min_size=1, max_size=3).map(tuple)
    assert origin is dict, hint
    return st.dictionaries(TEXTS, _strategy(args[1]), max_size=3)


def _checked(kind: type, checks: list[Check]) -> st.SearchStrategy[Any]:
    # Wide and narrow draws, because a filter over the wide one alone finds too little.
    base = {
        int: st.integers(1, 64) | st.integers(0, 1 << 53),
        float: st.floats(0.01, 1.0) | st.floats(0.0, 1e300),
    }[kind]
    return base.filter(lambda value: all(check.holds(value) for check in checks))


@st.composite
def arrays(draw: st.DrawFn, dtypes: tuple[str, ...] = tuple(DTYPE_BYTES), *, any_bits: bool = True) -> Any:
    """Arrays of any dtype and byte order, rank 0 to 8, any bits, in C order, permuted, sliced or strided."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rank = draw(st.integers(0, 8))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank)))
    while np.prod(shape) > 2000:
        shape = shape[:-1]
    seed = draw(st.integers(0, 1 << 31))
    generator = np.random.default_rng(seed)
    if dtype == np.bool_:
        array = np.asarray(generator.integers(0, 2, shape), np.bool_)
    elif any_bits:
        nbytes = int(np.prod(shape)) * dtype.itemsize
        array = np.frombuffer(generator.bytes(nbytes), dtype).reshape(shape)
    else:
        array = np.asarray(generator.standard_normal(shape) * 10.0 ** generator.integers(-20, 20), dtype)
    return _laid_out(draw, array)


def _laid_out(draw: st.DrawFn, array: Any) -> Any:
    layout = draw(st.sampled_from(["c", "fortran", "permuted", "sliced", "reversed", "broadcast", "big"]))
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "permuted":
        return array.transpose(draw(st.permutations(range(array.ndim))))
    if layout == "sliced" and array.ndim:
        return array[..., ::2]
    if layout == "reversed" and array.ndim:
        return array[::-1]
    if layout == "broadcast" and array.ndim < 8:
        return np.broadcast_to(array, (2, *array.shape))
    if layout == "big":
        return array.astype(array.dtype.newbyteorder(">"))
    return array
