"""Multiply-accumulates of one aten operator, from the shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgemesh.model.torch_graph import Argument, Operator, Ref, Value

_Shape = tuple[int, ...]
_Rule = Callable[[Operator, Sequence[Value]], int]


def operator_macs(operator: Operator, values: Sequence[Value]) -> int:
    """Multiply-accumulates of ``operator``; 0 for those that only move, compare or combine elements.

    Never raises: a rule that does not fit (a hostile graph) counts as 0, as it only steers where units end.
    """
    rule = _RULES.get(operator.target.removeprefix("aten."))
    if rule is None:
        return 0
    try:
        return max(0, rule(operator, values))
    except (IndexError, TypeError, ValueError, AttributeError):
        return 0


def _shape(operator: Operator, position: int, values: Sequence[Value]) -> _Shape:
    argument = operator.arguments[position]
    if not isinstance(argument, Ref):
        raise TypeError(argument)
    return values[argument.value].shape


def _made(operator: Operator, values: Sequence[Value]) -> _Shape:
    return values[operator.outputs[0]].shape


def _convolution(operator: Operator, values: Sequence[Value]) -> int:
    # Weight [out, in / groups, *kernel]: each output element sums over all but its first dimension.
    return math.prod(_made(operator, values)) * math.prod(_shape(operator, 1, values)[1:])


def _transposed_convolution(operator: Operator, values: Sequence[Value]) -> int:
    # Weight [in, out / groups, *kernel]: each input element is spread over all but its first dimension.
    return math.prod(_shape(operator, 0, values)) * math.prod(_shape(operator, 1, values)[1:])


def _convolution_by_flag(operator: Operator, values: Sequence[Value]) -> int:
    transposed = operator.arguments[6] if len(operator.arguments) > 6 else False
    return (_transposed_convolution if transposed else _convolution)(operator, values)


def _product(position: int) -> _Rule:
    """Matrix product with its left factor at ``position``; the sum runs over that one's last dimension."""

    def macs(operator: Operator, values: Sequence[Value]) -> int:
        return math.prod(_made(operator, values)) * _shape(operator, position, values)[-1]

    return macs


def _attention(operator: Operator, values: Sequence[Value]) -> int:
    # [..., L, E] x [..., S, E] -> [..., L, S], then times [..., S, Ev].
    query, key, value = (_shape(operator, position, values) for position in range(3))
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(operator: Operator, values: Sequence[Value]) -> int:
    # Each matrix of each layer is applied once per step and per sequence.
    sequence = _shape(operator, 0, values)
    parameters = operator.arguments[2]
    matrices = [values[p.value].shape for p in parameters if isinstance(p, Ref)]
    return math.prod(sequence[:-1]) * sum(math.prod(shape) for shape in matrices if len(shape) == 2)


def _einsum(operator: Operator, values: Sequence[Value]) -> int:
    equation: Argument = operator.arguments[0]
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, operator.arguments[1]):
        sizes.update(zip(term, values[tensor.value].shape))
    return math.prod(sizes.values())


_RULES: dict[str, _Rule] = {
    "conv1d.default": _convolution,
    "conv2d.default": _convolution,
    "conv3d.default": _convolution,
    "conv1d.padding": _convolution,
    "conv2d.padding": _convolution,
    "conv3d.padding": _convolution,
    "convolution.default": _convolution_by_flag,
    "conv_transpose1d.default": _transposed_convolution,
    "conv_transpose2d.input": _transposed_convolution,
    "conv_transpose3d.input": _transposed_convolution,
    "linear.default": _product(0),
    "mm.default": _product(0),
    "bmm.default": _product(0),
    "matmul.default": _product(0),
    "mv.default": _product(0),
    "addmm.default": _product(1),
    "baddbmm.default": _product(1),
    "scaled_dot_product_attention.default": _attention,
    "lstm.input": _recurrent,
    "gru.input": _recurrent,
    "rnn_tanh.input": _recurrent,
    "rnn_relu.input": _recurrent,
    "einsum.default": _einsum,
}
