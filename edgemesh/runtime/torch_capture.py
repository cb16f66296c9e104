"""Captures a torch module into the content file of a model, on the operator's machine.

The module is exported by ``torch.export``, translated, run once on the example to measure the memory layout
of every tensor, compared with the module itself, and written with its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from edgemesh.errors import ModelError
from edgemesh.model.torch_file import StoredTensor, write_model
from edgemesh.model.torch_graph import TorchGraph
from edgemesh.model.torch_structure import Liveness
from edgemesh.runtime.torch_interpreter import TorchRange, measured_values
from edgemesh.runtime.torch_translation import SideEffectError, Translation, translated

_Tree = TypeVar("_Tree")
_TOLERANCE = 1e-3
"""Of the largest output; float32 kernels that sum in another order stay far below it."""


def capture(
    module: torch.nn.Module, example_inputs: Sequence[torch.Tensor], path: Path, name: str
) -> TorchGraph:
    """Write the content of model ``name`` to ``path``: the graph of ``module`` in eval mode and its weights.

    Inputs later have the shapes and dtypes of ``example_inputs``. Equal modules give equal bytes. Raises
    ModelError naming what cannot be exported, run or cut.
    """
    inputs = tuple(example_inputs)
    module.eval()
    with torch.no_grad(), _plain_attention():
        program = _exported(module, inputs, name)
        return _written(program, module, (inputs, {}), path, name)


def capture_pt2(source: Path, path: Path, name: str, *, trusted: bool) -> TorchGraph:
    """Write the content of the exported program in the ``.pt2`` file ``source``, as ``capture`` does.

    Loading such a file may run code that is in it. Raises ModelError unless the operator said that it is
    ``trusted``, and where it cannot be loaded.
    """
    if not trusted:
        raise ModelError(
            f"{source} may run code when it is loaded: add it with --trust if you know its author"
        )
    try:
        program = torch.export.load(source)
    except Exception as error:  # whatever the code in the file raises
        raise ModelError(f"{source} is not an exported program that torch loads: {_line(error)}") from error
    if program.example_inputs is None:
        raise ModelError(f"{source} holds no example inputs: export it again from its module")
    with torch.no_grad():
        return _written(program, program.module(), program.example_inputs, path, name)


def _exported(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], name: str) -> ExportedProgram:
    # Tracing without dynamo first: it takes 1 s where the strict way takes 6 for MobileNetV2, and the graph
    # is compared with the module afterwards in either case.
    try:
        return torch.export.export(module, inputs, strict=False)
    except Exception:  # the exporter raises dozens of kinds; what one way cannot trace, the other may
        try:
            return torch.export.export(module, inputs, strict=True)
        except Exception as error:
            raise ModelError(
                f"model {name} cannot be exported: {_line(error)}; make its forward free of "
                "control flow that depends on data"
            ) from error


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without the fused call that transformer layers make in eval mode: nothing inside it could be cut."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _written(
    program: ExportedProgram,
    module: torch.nn.Module,
    example: tuple[tuple[object, ...], dict[str, object]],
    path: Path,
    name: str,
) -> TorchGraph:
    tensors = _tensors(_copies(example))
    try:
        translation = _measured(translated(program, name), tensors)
    except SideEffectError:
        # The exporter's own way costs copies and assumes strides, so it is the second choice.
        translation = _functionalised(program, tensors, name)
    arguments, keywords = _copies(example)
    _compare(translation, tensors, _tensors(module(*arguments, **keywords)))
    graph, weights = translation.graph, translation.weights
    stored: dict[str, torch.Tensor] = {}
    for weight in graph.weights:
        stored.setdefault(weight.tensor, weights[weight.value])
    header = {
        weight.tensor: StoredTensor(graph.values[weight.value].dtype, graph.values[weight.value].shape)
        for weight in graph.weights
    }
    write_model(path, graph, header, lambda key: stored[key].contiguous().numpy().tobytes())
    return graph


def _functionalised(program: ExportedProgram, inputs: Sequence[torch.Tensor], name: str) -> Translation:
    try:
        pure = program.run_decompositions({})
    except Exception as error:
        raise ModelError(f"model {name} cannot be freed of writes in place: {_line(error)}") from error
    try:
        return _measured(translated(pure, name), inputs)
    except SideEffectError as error:
        raise ModelError(f"model {name} writes in place, at {error}: return a new tensor there") from None


def _measured(translation: Translation, inputs: Sequence[torch.Tensor]) -> Translation:
    """With the values as a run makes them; raises SideEffectError where they are not what was exported."""
    graph = translation.graph
    span = Liveness(graph).operator_range(0, len(graph.operators))
    measured = measured_values(span, graph.values, translation.weights, inputs, graph.name)
    values = tuple(measured.get(number, value) for number, value in enumerate(graph.values))
    for found, wanted in zip(values, graph.values):
        if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            raise SideEffectError(f"{wanted.name} of model {graph.name}")
    return replace(translation, graph=replace(graph, values=values))


def _compare(
    translation: Translation, inputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
) -> None:
    """Raise ModelError when the graph does not compute what the module does."""
    graph = translation.graph
    span = Liveness(graph).operator_range(0, len(graph.operators))
    whole = TorchRange(span, graph.values, translation.weights, graph.name, from_start=True, memory_bytes=0)
    outputs = whole.run([tensor.numpy() for tensor in inputs])
    # A module may return one tensor twice; the graph returns it once.
    for value, output in zip(span.outputs, outputs):
        found = torch.from_numpy(output)
        if not any(
            found.shape == tensor.shape and found.dtype == tensor.dtype and _close(found, tensor)
            for tensor in expected
        ):
            raise ModelError(
                f"model {graph.name} gives another {graph.values[value].name} once captured: it may draw "
                "random numbers or change itself when it runs; such a model cannot be used"
            )


def _close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    if not found.dtype.is_floating_point and not found.dtype.is_complex:
        return bool(torch.equal(found, wanted))
    largest = wanted.abs().nan_to_num(0.0, 0.0, 0.0).max().item() if wanted.numel() else 0.0
    return bool(torch.allclose(found, wanted, rtol=_TOLERANCE, atol=_TOLERANCE * largest, equal_nan=True))


def _copies(tree: _Tree) -> _Tree:
    # A module may write to its inputs.
    return cast(
        _Tree, pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, tree)
    )


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
