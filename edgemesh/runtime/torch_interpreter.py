"""Runs a range of a captured torch model as a straight line of operator calls.

Whole and cut run the same calls on the same values in the same memory layout, hence give the same bits:
results of matrix kernels may depend on strides and on the alignment of their operands, so what arrives over
a cut is put where it would have been without one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from edgemesh.errors import ModelError, RunError
from edgemesh.model.torch_graph import Argument, Named, Operator, Ref, Value, c_strides, is_dense
from edgemesh.model.torch_structure import OperatorRange, restored_layout
from edgemesh.protocol.manifest import DTYPE_BYTES, DType
from edgemesh.runtime.torch_operators import resolved

# Arrays decoded from a message are read-only, and every operator of the table only reads.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

_Array = npt.NDArray[Any]
_ALIGNMENT = 64
"""Bytes; where torch's own allocator places every tensor."""

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_BYTES if hasattr(torch, name)}
"""By name; a release of torch without ``uint16`` cannot run models that have it."""
_TYPE_CODES = {name: np.dtype(name).str for name in DTYPE_BYTES}
"""Of NumPy, the byte order of this machine included."""
_MEMORY_FORMATS = {
    "contiguous_format": torch.contiguous_format,
    "preserve_format": torch.preserve_format,
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
}
_NAMED: dict[str, Mapping[str, Any]] = {
    "dtype": DTYPES,
    "device": {"cpu": torch.device("cpu")},
    "layout": {"strided": torch.strided},
    "memory_format": _MEMORY_FORMATS,
}


class _Step:
    """One operator call, resolved: which slots it reads, writes and frees."""

    __slots__ = ("free", "function", "keywords", "name", "out", "outs", "read")

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.name = name
        self.read: Callable[[list[Any]], Sequence[Any]] = tuple
        self.keywords: dict[str, Any] = {}
        self.out = -1
        self.outs: tuple[int, ...] | None = None
        self.free: tuple[int, ...] = ()


class TorchRange:
    """Operators of an ``OperatorRange`` over loaded weights; ``run`` may be called from any thread."""

    def __init__(
        self,
        span: OperatorRange,
        values: Sequence[Value],
        weights: Mapping[int, torch.Tensor],
        model: str,
        *,
        from_start: bool,
        memory_bytes: int,
    ) -> None:
        self._model = model
        self._inputs = [values[value] for value in span.inputs]
        self._outputs = [values[value] for value in span.outputs]
        self._from_start = from_start
        self._memory_bytes = memory_bytes
        program = _Program(model)
        for value, weight in weights.items():
            program.slots[program.slot(value)] = weight
        # Made once: they depend on weights only, and their operators are pure.
        made = [program.step(operator) for operator in span.constants]
        with torch.inference_mode():
            _execute(made, program.slots, model)
        fixed = set(program.slot_of)
        self._input_slots = [program.slot(value) for value in span.inputs]
        self._steps = [program.step(operator) for operator in span.operators]
        self._output_slots = [program.slot(value) for value in span.outputs]
        _plan_frees(span, self._steps, program.slot_of, fixed)
        self._template = program.slots

    @property
    def memory_bytes(self) -> int:
        """Weights, which stay mapped from the file, and the largest sum of activations at once."""
        return self._memory_bytes

    def run(self, inputs: Sequence[_Array]) -> list[_Array]:
        """Outputs for ``inputs``, in the order of the boundaries; raises RunError."""
        if len(inputs) != len(self._inputs):
            raise RunError(f"model {self._model} got {len(inputs)} tensors, wants {len(self._inputs)}")
        slots = self._template.copy()
        with torch.inference_mode():
            for slot, value, array in zip(self._input_slots, self._inputs, inputs):
                slots[slot] = self._tensor(value, array)
            _execute(self._steps, slots, self._model)
            return [self._array(value, slots[slot]) for slot, value in zip(self._output_slots, self._outputs)]

    def _tensor(self, value: Value, array: _Array) -> torch.Tensor:
        if array.dtype.str != _TYPE_CODES[value.dtype] or array.shape != value.shape:
            raise RunError(
                f"tensor {value.name} of model {self._model} is {array.dtype}{list(array.shape)}, "
                f"wanted {value.dtype}{list(value.shape)}"
            )
        if any(step < 0 or step % array.itemsize for step in array.strides):
            array = np.ascontiguousarray(array)
        return placed(torch.from_numpy(array), value, as_recorded=self._from_start)

    def _array(self, value: Value, tensor: torch.Tensor) -> _Array:
        shape = tuple(tensor.shape)
        if shape != value.shape or tensor.dtype is not DTYPES.get(value.dtype):
            raise RunError(
                f"model {self._model} made {tensor.dtype}{list(shape)} of {value.name}, "
                f"its graph says {value.dtype}{list(value.shape)}"
            )
        if not is_dense(shape, tensor.stride()):
            tensor = tensor.clone()
        array: _Array = tensor.numpy()
        return array


def placed(tensor: torch.Tensor, value: Value, *, as_recorded: bool) -> torch.Tensor:
    """``tensor`` in the memory layout it has where nothing is cut.

    A dense tensor keeps the strides it came with (the codec carries them; on another kind of processor they
    may differ from the recorded ones) unless ``as_recorded``. A tensor with gaps or repetitions travels
    without them and gets them back. Copies only where layout or alignment differ.
    """
    strides = value.strides
    if not as_recorded and value.is_dense and not _same_order(value.shape, tensor.stride(), strides):
        strides = tensor.stride() if is_dense(value.shape, tensor.stride()) else strides
    offset = value.offset * tensor.element_size() % _ALIGNMENT
    if _same_order(value.shape, tensor.stride(), strides) and tensor.data_ptr() % _ALIGNMENT == offset:
        # Strides of dimensions of size 1 mean nothing to the codec, yet torch picks kernels by them.
        return tensor.as_strided(value.shape, strides)
    return _copied(tensor, value, strides, offset // tensor.element_size())


def _copied(tensor: torch.Tensor, value: Value, strides: tuple[int, ...], offset: int) -> torch.Tensor:
    whole = Value(value.name, value.dtype, value.shape, strides)
    storage = torch.empty(offset + whole.extent, dtype=tensor.dtype)
    layout = restored_layout(whole)
    if layout is None:
        return tensor.contiguous()
    once = tensor[tuple(slice(0, size) for size in layout[0])] if tensor.dim() else tensor
    storage.as_strided(layout[0], strides, offset).copy_(once)
    return storage.as_strided(value.shape, strides, offset)


def _same_order(shape: Sequence[int], found: Sequence[int], wanted: Sequence[int]) -> bool:
    return all(size == 1 or a == b for size, a, b in zip(shape, found, wanted))


def measured_values(
    span: OperatorRange,
    values: Sequence[Value],
    weights: Mapping[int, torch.Tensor],
    inputs: Sequence[torch.Tensor],
    model: str,
) -> dict[int, Value]:
    """The values that a run over ``inputs`` makes, with the dtype, shape and layout they turn out to have."""
    program = _Program(model)
    found = {**dict(zip(span.inputs, inputs)), **weights}
    for value, tensor in found.items():
        program.slots[program.slot(value)] = tensor
    steps = [(operator, program.step(operator)) for operator in (*span.constants, *span.operators)]
    _plan_frees(span, [step for _, step in steps[len(span.constants) :]], program.slot_of, set())
    measured: dict[int, Value] = {
        value: measured_value(values[value].name, tensor, model) for value, tensor in found.items()
    }
    with torch.inference_mode():
        for operator, step in steps:
            free, step.free = step.free, ()
            _execute([step], program.slots, model)
            for value in operator.outputs:
                tensor = program.slots[program.slot_of[value]]
                measured[value] = measured_value(values[value].name, tensor, model)
            for slot in free:
                program.slots[slot] = None
    return measured


def measured_value(name: str, tensor: torch.Tensor, model: str) -> Value:
    """``tensor`` described; raises ModelError when its dtype cannot travel."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise ModelError(
            f"tensor {name} of model {model} is {dtype}, which no cut can carry: convert the model to float32"
        )
    shape, stride = tuple(tensor.shape), tuple(tensor.stride())
    return Value(
        name=name,
        dtype=cast(DType, dtype),
        shape=shape,
        stride=None if stride == c_strides(shape) else stride,
        offset=tensor.storage_offset() % _ALIGNMENT,
    )


class _Program:
    """Gives slots to values and constant arguments while steps are made."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.slots: list[Any] = []
        self.slot_of: dict[int, int] = {}

    def slot(self, value: int) -> int:
        """The slot of a value of the graph."""
        if value not in self.slot_of:
            self.slot_of[value] = self._new_slot(None)
        return self.slot_of[value]

    def step(self, operator: Operator) -> _Step:
        """The call of ``operator``; raises ModelError when it is not allowed or an argument is unknown."""
        step = _Step(resolved(operator.target, self.model), operator.name)
        step.read = self._reader(operator.arguments)
        for key, argument in operator.keywords.items():
            if _has_ref((argument,)):
                raise ModelError(f"operator {operator.name} of model {self.model} has a tensor as keyword")
            step.keywords[key] = self._constant(argument)
        outs = tuple(self.slot(value) for value in operator.outputs)
        if operator.unpack:
            step.outs = outs
        else:
            step.out = outs[0]
        return step

    def _reader(self, arguments: tuple[Argument, ...]) -> Callable[[list[Any]], Sequence[Any]]:
        """A function from all slots to the arguments: all of them live in slots, so it is one C call."""
        if any(isinstance(argument, tuple) and _has_ref(argument) for argument in arguments):
            return _NestedReader([self._part(argument) for argument in arguments])
        indices = [self._argument_slot(argument) for argument in arguments]
        if len(indices) > 1:
            return itemgetter(*indices)
        return itemgetter(slice(indices[0], indices[0] + 1)) if indices else _no_arguments

    def _part(self, argument: Argument) -> Any:
        if isinstance(argument, tuple) and _has_ref(argument):
            return [self._argument_slot(item) for item in argument]
        return self._argument_slot(argument)

    def _argument_slot(self, argument: Argument) -> int:
        if isinstance(argument, Ref):
            return self.slot(argument.value)
        return self._new_slot(self._constant(argument))

    def _constant(self, argument: Argument) -> Any:
        if isinstance(argument, tuple):
            return [self._constant(item) for item in argument]
        if isinstance(argument, Named):
            found = _NAMED[argument.kind].get(argument.text)
            if found is None:
                raise ModelError(
                    f"model {self.model} asks for {argument.kind} {argument.text[:40]!r}, which is not here"
                )
            return found
        if isinstance(argument, Ref):
            raise ModelError(f"model {self.model} nests tensors deeper than any operator takes them")
        return argument

    def _new_slot(self, content: Any) -> int:
        self.slots.append(content)
        return len(self.slots) - 1


class _NestedReader:
    """Arguments of operators such as ``cat`` that take a list of tensors."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts

    def __call__(self, slots: list[Any]) -> Sequence[Any]:
        return [
            [slots[index] for index in part] if isinstance(part, list) else slots[part] for part in self.parts
        ]


def _no_arguments(slots: list[Any]) -> Sequence[Any]:
    return ()


def _has_ref(arguments: Iterable[Argument]) -> bool:
    return any(
        _has_ref(argument) if isinstance(argument, tuple) else isinstance(argument, Ref)
        for argument in arguments
    )


def _plan_frees(
    span: OperatorRange, steps: Sequence[_Step], slot_of: Mapping[int, int], fixed: set[int]
) -> None:
    """Let each step free what nothing reads after it, the unread ones of its own outputs included."""
    kept = {*fixed, *span.outputs}
    for operator, step in zip(reversed(span.operators), reversed(steps)):
        dead = [value for value in {*operator.references(), *operator.outputs} if value not in kept]
        step.free = tuple(sorted(slot_of[value] for value in dead))
        kept.update(dead)


def _execute(steps: Sequence[_Step], slots: list[Any], model: str) -> None:
    """Call ``steps`` in order over ``slots``; raises RunError naming the operator that failed."""
    step: _Step | None = None
    try:
        for step in steps:
            result = step.function(*step.read(slots), **step.keywords)
            if step.outs is None:
                slots[step.out] = result
            else:
                for slot, item in zip(step.outs, result, strict=True):
                    slots[slot] = item
            for slot in step.free:
                slots[slot] = None
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        name = step.name if step is not None else "the first operator"
        raise RunError(f"{name} of model {model} failed: {str(error).splitlines()[0][:200]}") from error
