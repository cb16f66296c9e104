"""Hypothesis strategies for messages, derived from the fields of their dataclasses."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from typing import Annotated, Any, Literal, TypeVar, Union

import numpy as np
from hypothesis import strategies as st

from edgemesh.errors import DecodeError
from edgemesh.protocol.activation import Activation, CodecName, Cut, Hop
from edgemesh.protocol.assignment import Assignment, Fallback
from edgemesh.protocol.fields import Check, Digest, Id
from edgemesh.protocol.manifest import DTYPE_BYTES
from edgemesh.protocol.tensors import CODECS

T = TypeVar("T")

IDS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
STOPS = st.sets(st.integers(1, 1024), min_size=1, max_size=5).map(sorted)
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
    values = {}
    if cls is Assignment:
        # All routes of an assignment end at the same cut.
        end = draw(st.integers(5, 1024))
        values = {
            "route": _route(draw, end),
            "fallbacks": tuple(_draw(draw, Fallback, {"route": _route(draw, end)}) for _ in range(2)),
            "runners_up": (),
        }
    values.update(fixed or {})
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in values:
            values[field.name] = draw(_strategy(hints[field.name]))
    if "start" in values and "stop" in values:
        values["start"], values["stop"] = sorted((values["start"], values["stop"] + 1))
        values["stop"] = min(1024, values["stop"] + (values["start"] == values["stop"]))
        values["start"] = min(values["start"], values["stop"] - 1)
    if cls is Activation:
        values["position"] = draw(st.integers(0, values["route"][-1].stop - 1))
    try:
        return cls(**values)
    except DecodeError:
        # What the class itself refuses (entries that contradict each other) keeps its defaults.
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            if field.default is not dataclasses.MISSING:
                del values[field.name]
        return cls(**values)


def _route(draw: st.DrawFn, end: int) -> tuple[Hop, ...]:
    stops = sorted(draw(st.sets(st.integers(1, end), max_size=4)) | {end})
    return tuple(Hop(draw(IDS), stop, draw(_NAMED[CodecName])) for stop in stops)


_ROUTES = st.composite(lambda draw: _route(draw, draw(st.integers(1, 1024))))()


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
        array = generator.integers(0, 2, shape).astype(np.bool_)
    elif any_bits:
        nbytes = int(np.prod(shape)) * dtype.itemsize
        array = np.frombuffer(generator.bytes(nbytes), dtype).reshape(shape)
    else:
        array = (generator.standard_normal(shape) * 10.0 ** generator.integers(-20, 20)).astype(dtype)
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
