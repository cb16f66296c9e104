"""From the graph of an exported torch program to ours: calls of allowed operators without side effects."""

from __future__ import annotations

import operator as python_operator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgemesh.errors import ModelError
from edgemesh.model.torch_graph import Argument, Named, Operator, Ref, TorchGraph, Value, Weight
from edgemesh.runtime.torch_aliases import DROPOUTS, IDENTITIES, Aliases, hidden_write
from edgemesh.runtime.torch_interpreter import measured_value
from edgemesh.runtime.torch_operators import ALLOWED, checked_targets

_STORED = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_CHECKS = {"aten._assert_tensor_metadata.default"}
_RENAMED = {
    # ``view`` fails where strides forbid it, ``reshape`` then copies. Strides may differ between processors.
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
    # What Python's ``&``, ``|`` and ``^`` call computes the same.
    "aten.__and__.Tensor": "aten.bitwise_and.Tensor",
    "aten.__and__.Scalar": "aten.bitwise_and.Scalar",
    "aten.__or__.Tensor": "aten.bitwise_or.Tensor",
    "aten.__or__.Scalar": "aten.bitwise_or.Scalar",
    "aten.__xor__.Tensor": "aten.bitwise_xor.Tensor",
}
_IMMATERIAL = {"pin_memory"}


class SideEffectError(Exception):
    """A write that cannot become a call with a result, as other views of its target are read later."""


@dataclass(frozen=True)
class Translation:
    """A graph whose values are as the exporter assumed them, and the tensors of its weights by value."""

    graph: TorchGraph
    weights: dict[int, torch.Tensor]


def translated(program: ExportedProgram, name: str) -> Translation:
    """``program`` as a graph; raises ModelError naming what cannot be run, SideEffectError."""
    return _Translator(program, name).translation()


class _Translator:
    def __init__(self, program: ExportedProgram, name: str) -> None:
        self._program = program
        self._name = name
        self._values: list[Value] = []
        self._content: dict[Node, Any] = {}
        """Of each node: a Ref, a tuple of them, or a constant."""
        self._operators: list[Operator] = []
        self._inputs: list[int] = []
        self._weights: dict[int, tuple[str, torch.Tensor]] = {}
        self._aliases = Aliases(program.graph.nodes)

    def translation(self) -> Translation:
        """Walk the exported graph once, then keep what its outputs depend on."""
        self._refuse_state()
        self._refuse_hidden_writes()
        for node in self._program.graph.nodes:
            if node.op == "call_function":
                self._call(node)
            elif node.op == "get_attr":
                raise ModelError(
                    f"model {self._name} has the sub-graph {node.name}, made by control flow or an autocast "
                    "region in its forward: take that out of the forward"
                )
        outputs = self._outputs()
        return _assembled(self._name, self._values, self._inputs, self._weights, self._kept(outputs), outputs)

    def _refuse_state(self) -> None:
        signature = self._program.graph_signature
        for spec in signature.output_specs:
            if spec.kind is OutputKind.BUFFER_MUTATION:
                raise ModelError(
                    f"model {self._name} writes to its buffer {spec.target}: a state cannot be shared by "
                    "several devices; pass it as an input and return it"
                )
        placeholders = [node for node in self._program.graph.nodes if node.op == "placeholder"]
        for node, spec in zip(placeholders, signature.input_specs):
            if spec.kind in _STORED:
                self._content[node] = self._weight(node, str(spec.target))
            elif spec.kind is not InputKind.USER_INPUT:
                raise ModelError(
                    f"model {self._name} takes {spec.kind.name.lower()} {node.name}, not a tensor"
                )
            elif isinstance(spec.arg, ConstantArgument):
                self._content[node] = spec.arg.value
            else:
                self._content[node] = self._value(node.name, node.meta["val"])
                self._inputs.append(self._content[node].value)

    def _refuse_hidden_writes(self) -> None:
        # Here and not at the write: the exporter's own removal of writes would lose it without a word.
        stored = [node for node, content in self._content.items() if isinstance(content, Ref)]
        stored = [node for node in stored if self._content[node].value in self._weights]
        found = hidden_write(self._program.graph.nodes, stored)
        if found is not None:
            write, sharer = found
            raise ModelError(
                f"model {self._name} writes in place, at {write.name}, to memory that {sharer.name} shares: "
                "return a new tensor there"
            )

    def _weight(self, node: Node, target: str) -> Ref:
        stored = self._program.state_dict.get(target)
        if stored is None:
            stored = self._program.constants[target]
        if not isinstance(stored, torch.Tensor):
            raise ModelError(f"model {self._name} holds {target}, which is no tensor")
        ref = self._value(node.name, stored)
        self._weights[ref.value] = (target, stored.detach())
        return ref

    def _value(self, name: str, tensor: object) -> Ref:
        if not isinstance(tensor, torch.Tensor):
            raise ModelError(
                f"model {self._name} computes {name}, a {type(tensor).__name__} and not a tensor"
            )
        if not all(type(size) is int for size in tensor.shape):
            raise ModelError(
                f"model {self._name} has {name} of a shape that depends on data: "
                "give every tensor a fixed shape"
            )
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise ModelError(f"model {self._name} has {name}, which is sparse or quantized")
        self._values.append(measured_value(name, tensor, self._name))
        return Ref(len(self._values) - 1)

    def _call(self, node: Node) -> None:
        if node.target is python_operator.getitem:
            source, index = node.args
            self._content[node] = self._content[cast(Node, source)][index]
            return
        if not isinstance(node.target, torch._ops.OpOverload):
            raise ModelError(f"model {self._name} calls {node.target}, which is no aten operator")
        target = str(node.target)
        if target in _CHECKS:
            return
        arguments, keywords = self._arguments(node)
        if target in DROPOUTS and arguments[2] is True:
            raise ModelError(
                f"model {self._name} has dropout in training mode: call .eval() before capturing"
            )
        if target in IDENTITIES or target in DROPOUTS:
            self._content[node] = arguments[0]
            return
        if node.target._schema.is_mutable:
            target = self._without_side_effect(node, target)
        target = _RENAMED.get(target, target)
        checked_targets({target}, self._name)
        self._content[node] = self._made(node, target, arguments, keywords)
        if node.target._schema.is_mutable:
            for alias in self._aliases.same(node, self._content):
                self._content[alias] = self._content[node]

    def _made(
        self, node: Node, target: str, arguments: tuple[Argument, ...], keywords: dict[str, Argument]
    ) -> Any:
        result = node.meta["val"]
        unpack = isinstance(result, (tuple, list))
        if unpack:
            made = [self._value(f"{node.name}.{index}", item) for index, item in enumerate(result)]
        else:
            made = [self._value(node.name, result)]
        outputs = tuple(ref.value for ref in made)
        name = " ".join((*_module_of(node), target.split(".")[1]))
        self._operators.append(Operator(name, target, arguments, keywords, outputs, unpack))
        return tuple(made) if unpack else made[0]

    def _without_side_effect(self, node: Node, target: str) -> str:
        """The operator that returns what ``node`` would write to its first argument."""
        namespace, operator, overload = target.split(".")
        pure = f"{namespace}.{operator.removesuffix('_')}.{overload}"
        if (
            not operator.endswith("_")
            or pure not in ALLOWED
            or self._aliases.others_read_later(node, self._content)
        ):
            raise SideEffectError(f"{node.name} of model {self._name}")
        return pure

    def _arguments(self, node: Node) -> tuple[tuple[Argument, ...], dict[str, Argument]]:
        """Arguments by position as far as the schema allows (faster to call), the rest by keyword."""
        schema = cast(Any, node.target)._schema.arguments
        given = dict(node.kwargs)
        positional = [argument for argument in schema if not argument.kwarg_only]
        last = max((i for i, argument in enumerate(positional) if argument.name in given), default=-1)
        arguments = list(node.args)
        for argument in positional[len(arguments) : last + 1]:
            arguments.append(given.pop(argument.name, argument.default_value))
        keywords = {key: self._argument(item) for key, item in given.items() if key not in _IMMATERIAL}
        return tuple(self._argument(item) for item in arguments), keywords

    def _argument(self, item: Any) -> Argument:
        if isinstance(item, Node):
            return self._content[item]
        if item is None or isinstance(item, (bool, int, float, str)):
            return item
        if isinstance(item, (list, tuple)):
            return tuple(self._argument(part) for part in item)
        if isinstance(item, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            raise ModelError(
                f"model {self._name} computes with the size {item}: give every input a fixed shape"
            )
        if isinstance(item, torch.device) and item.type != "cpu":
            raise ModelError(f"model {self._name} asks for device {item}: move it to the CPU first")
        for kind, type_ in _KINDS.items():
            if isinstance(item, type_):
                return Named(kind, str(item).removeprefix("torch."))
        raise ModelError(f"model {self._name} passes a {type(item).__name__} to an operator")

    def _outputs(self) -> list[int]:
        """Outputs of the model, each once, renamed after their place in what it returns."""
        outputs: list[int] = []
        taken = {self._values[value].name for value in self._inputs}
        [node] = [node for node in self._program.graph.nodes if node.op == "output"]
        contents = self._argument(node.args[0])
        user = [spec.kind is OutputKind.USER_OUTPUT for spec in self._program.graph_signature.output_specs]
        returned = [content for content, is_user in zip(contents, user) if is_user]
        for content, name in zip(returned, _output_names(self._program)):
            if not isinstance(content, Ref):
                continue
            if content.value not in outputs:
                outputs.append(content.value)
                if content.value not in self._inputs:
                    name += "_out" * (name in taken)
                    self._values[content.value] = replace(self._values[content.value], name=name)
        if not outputs:
            raise ModelError(f"model {self._name} returns no tensor")
        return outputs

    def _kept(self, outputs: list[int]) -> list[Operator]:
        """Operators that the outputs depend on; all are pure, so the others can go."""
        wanted = set(outputs)
        kept: list[Operator] = []
        for operator in reversed(self._operators):
            if not wanted.isdisjoint(operator.outputs):
                kept.append(operator)
                wanted.update(operator.references())
        return kept[::-1]


_KINDS: dict[str, type] = {
    "dtype": torch.dtype,
    "device": torch.device,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


def _module_of(node: Node) -> tuple[str, ...]:
    """Path of the innermost module that ``node`` comes from; empty for the outermost or an unknown one."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    return (path,) if path else ()


def _output_names(program: ExportedProgram) -> list[str]:
    """``output``, or the keys and positions that lead to each tensor of a larger result, joined by dots."""
    spec = program.call_spec.out_spec
    if spec is None:
        return []
    paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten([0] * spec.num_leaves, spec))
    names = [
        ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path) for path, _ in paths
    ]
    return [f"output{'.' if name else ''}{name}" if name.isdigit() or not name else name for name in names]


def _assembled(
    name: str,
    values: list[Value],
    inputs: list[int],
    weights: dict[int, tuple[str, torch.Tensor]],
    operators: list[Operator],
    outputs: list[int],
) -> Translation:
    """Sort out constants, drop what nobody reads, number values in the order they are made."""
    read = {value for operator in operators for value in operator.references()} | set(outputs)
    fixed = {value for value in weights if value in read}
    constants = []
    for operator in operators:
        if fixed.issuperset(operator.references()):
            constants.append(operator)
            fixed.update(operator.outputs)
    own = [operator for operator in operators if fixed.isdisjoint(operator.outputs)]
    if not own or not inputs:
        raise ModelError(f"model {name} computes nothing from its inputs")
    order = [value for value in weights if value in read]
    order += [value for operator in constants for value in operator.outputs]
    order += inputs
    order += [value for operator in own for value in operator.outputs]
    number = {value: index for index, value in enumerate(order)}
    stored: dict[tuple[Any, ...], str] = {}
    kept = [value for value in weights if value in read]
    graph = TorchGraph(
        name=name,
        values=tuple(values[value] for value in order),
        inputs=tuple(number[value] for value in inputs),
        weights=tuple(
            Weight(number[value], stored.setdefault(_identity(weights[value][1]), weights[value][0]))
            for value in kept
        ),
        constants=tuple(_renumbered(operator, number) for operator in constants),
        operators=tuple(_renumbered(operator, number) for operator in own),
        outputs=tuple(number[value] for value in outputs),
    )
    return Translation(graph, {number[value]: weights[value][1] for value in kept})


def _identity(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Equal for tensors that are the same memory seen in the same way."""
    return (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))


def _renumbered(operator: Operator, number: dict[int, int]) -> Operator:
    def renumbered(argument: Argument) -> Argument:
        if isinstance(argument, Ref):
            return Ref(number[argument.value])
        if isinstance(argument, tuple):
            return tuple(renumbered(item) for item in argument)
        return argument

    return replace(
        operator,
        arguments=renumbered(operator.arguments),
        keywords={key: renumbered(item) for key, item in operator.keywords.items()},
        outputs=tuple(number[value] for value in operator.outputs),
    )
