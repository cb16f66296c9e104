"""The torch runtime: what it opens, loads and refuses."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgemesh.errors import ModelError, RunError
from edgemesh.model.torch_file import StoredTensor, write_model
from edgemesh.model.torch_graph import Named, Ref, TorchGraph
from edgemesh.protocol.manifest import Unit
from edgemesh.runtime.torch import TorchRuntime
from edgemesh.runtime.torch_operators import ALLOWED
from tests.model.torch_graphs import graph, operator
from tests.runtime.torch_content import captured, opened
from tests.runtime.torch_networks import network

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
WEIGHT = np.arange(32, dtype=np.float32).reshape(8, 4)


def content(path: Path, **changes: Any) -> Path:
    """The hand-made graph with these changes, as a file."""
    write_model(
        path,
        graph(**changes),
        {"layer.weight": StoredTensor("float32", (8, 4))},
        lambda name: WEIGHT.tobytes(),
    )
    return path


def with_operator(index: int, **changes: Any) -> tuple[Any, ...]:
    """The operators of the hand-made graph, one of them changed."""
    operators = list(graph().operators)
    operators[index] = replace(operators[index], **changes)
    return tuple(operators)


def test_a_hand_made_graph_computes_what_it_says(tmp_path: Path) -> None:
    model, units = opened(content(tmp_path / "net"), every_operator=True)

    output, early = model.load(0, units).run([X])

    np.testing.assert_allclose(output, (X @ WEIGHT.T)[:, :4] + WEIGHT.max(), rtol=1e-6)
    np.testing.assert_array_equal(early, np.maximum(X, 0))


@pytest.mark.parametrize(
    "target",
    [
        "aten.relu_.default",
        "aten.empty.memory_format",
        "aten.as_strided.default",
        "aten.from_file.default",
        "aten.relu.__class__",
        "aten.relu.default.__call__",
        "aten.__loader__.default",
        "aten..",
        "os.system.default",
        "builtins.eval.default",
        "relu",
    ],
)
def test_an_operator_off_the_allowlist_is_named_and_not_loaded(target: str, tmp_path: Path) -> None:
    model, units = opened(
        content(tmp_path / "net", operators=with_operator(0, target=target)), every_operator=True
    )

    with pytest.raises(ModelError) as refused:
        model.load(0, units)

    assert target in str(refused.value)
    # A device that runs other units is not concerned.
    model.load(1, units)


def test_the_allowlist_holds_no_operator_that_writes_or_draws() -> None:
    for target in ALLOWED:
        _, name, overload = target.split(".")
        found = getattr(getattr(torch.ops.aten, name), overload)
        assert not found._schema.is_mutable, target
        # These draw only when told to drop out; a capture that does is refused by its comparison.
        if name not in {"lstm", "gru", "rnn_tanh", "rnn_relu", "scaled_dot_product_attention"}:
            assert torch.Tag.nondeterministic_seeded not in found.tags, target


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": (Ref(2), Named("dtype", "__class__"))},
        {"arguments": (Ref(2), Named("device", "cuda:0"))},
        {"arguments": (Ref(2), (((Ref(2),),),))},
        {"keywords": {"out": Ref(2)}},
    ],
)
def test_unknown_constants_and_misplaced_tensors_are_refused_when_loaded(
    changes: Any, tmp_path: Path
) -> None:
    model, units = opened(content(tmp_path / "net", operators=with_operator(0, **changes)))

    with pytest.raises(ModelError, match="model net"):
        model.load(0, units)


def test_a_constant_that_cannot_be_made_is_a_model_error(tmp_path: Path) -> None:
    broken = operator("amax.default", (0,), 1, arguments=(Ref(0), (9,)))
    model, units = opened(content(tmp_path / "net", constants=(broken,)))

    with pytest.raises(ModelError, match=r"amax\.default"):
        model.load(0, units)


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": (Ref(2), None)},
        {"arguments": ("text",)},
        {"arguments": ()},
        {"keywords": {"surprise": 1}},
    ],
)
def test_an_operator_that_fails_is_named_in_the_run_error(changes: Any, tmp_path: Path) -> None:
    model, units = opened(content(tmp_path / "net", operators=with_operator(1, **changes)))

    with pytest.raises(RunError, match=r"linear\.default"):
        model.load(0, units).run([X])


def test_an_operator_with_another_number_of_results_is_a_run_error(tmp_path: Path) -> None:
    model, units = opened(content(tmp_path / "net", operators=with_operator(2, arguments=(Ref(4), 4, 1))))

    with pytest.raises(RunError, match=r"chunk\.default"):
        model.load(0, units).run([X])


def test_a_result_of_another_shape_than_the_graph_says_is_a_run_error(tmp_path: Path) -> None:
    model, units = opened(content(tmp_path / "net", operators=with_operator(3, arguments=(Ref(4), Ref(1)))))

    with pytest.raises(RunError, match="output"):
        model.load(0, units).run([X])


@pytest.mark.parametrize("inputs", [[], [X, X], [X.astype(np.float64)], [X[:1]], [X.astype(">f4")]])
def test_inputs_that_do_not_fit_the_boundary_are_a_run_error(inputs: list[Any], tmp_path: Path) -> None:
    model, units = opened(content(tmp_path / "net"))

    with pytest.raises(RunError):
        model.load(0, units).run(inputs)


def test_the_layout_of_an_input_does_not_change_the_result(tmp_path: Path) -> None:
    model, units = opened(content(tmp_path / "net"))
    loaded = model.load(0, units)
    wanted = loaded.run([X])
    read_only = X.copy()
    read_only.flags.writeable = False

    for x in (np.asfortranarray(X), X[::-1].copy()[::-1], np.repeat(X, 2, 1)[:, ::2], read_only):
        for found, expected in zip(loaded.run([x]), wanted, strict=True):
            np.testing.assert_array_equal(found, expected, strict=True)


def test_outputs_stay_valid_after_the_next_run(tmp_path: Path) -> None:
    model, units = opened(content(tmp_path / "net"))
    loaded = model.load(0, units)

    first = loaded.run([X])
    kept = [output.copy() for output in first]
    loaded.run([X * 3])

    for found, wanted in zip(first, kept, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_one_range_runs_in_several_threads(tmp_path: Path) -> None:
    module, inputs = network("googlenet")
    model, units = opened(captured(module, inputs, tmp_path / "net"))
    loaded, images = model.load(0, units), [inputs[0].numpy() * scale for scale in range(6)]
    wanted = [loaded.run([image])[0] for image in images]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda image: loaded.run([image])[0], images))

    np.testing.assert_array_equal(found, wanted)


def test_memory_counts_the_weights_of_the_range_only(tmp_path: Path) -> None:
    model, units = opened(content(tmp_path / "net"), every_operator=True)

    assert model.load(0, 1).memory_bytes == 2 * X.nbytes
    assert model.load(0, units).memory_bytes == WEIGHT.nbytes + 5 * X.nbytes


def test_a_manifest_that_does_not_lie_on_the_content_is_refused(tmp_path: Path) -> None:
    path = content(tmp_path / "net")
    model, _ = opened(path)
    structure = model._structure
    fewer = (*structure.units[:-1], replace(structure.units[-1], operators=structure.units[-1].operators - 1))
    manifest = _manifest(structure.units, structure.boundaries)

    with pytest.raises(ModelError, match="add"):
        TorchRuntime().open(path, replace(manifest, units=fewer), 1)
    with pytest.raises(ModelError, match="cut 0"):
        TorchRuntime().open(path, replace(manifest, boundaries=manifest.boundaries[::-1]), 1)


def test_content_that_is_damaged_is_a_model_error(tmp_path: Path) -> None:
    path = content(tmp_path / "net")
    structure = opened(path)[0]._structure
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(ModelError, match="fetch it again"):
        TorchRuntime().open(path, _manifest(structure.units, structure.boundaries), 1)


def _manifest(units: tuple[Unit, ...], boundaries: Any) -> Any:
    from edgemesh.protocol.manifest import Manifest

    return Manifest("net", "0" * 64, "torch", 1, units, boundaries, 1, ("0" * 64,))


def test_a_device_without_torch_describes_a_model_and_says_what_to_install(tmp_path: Path) -> None:
    path = content(tmp_path / "net")
    program = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from edgemesh.errors import MissingExtraError
from edgemesh.model.torch_file import read_graph
from edgemesh.model.torch_structure import structure_of
from edgemesh.runtime.torch import TorchRuntime
from edgemesh.zoo.sources import torch_source
structure = structure_of(read_graph(Path({str(path)!r})))
for call in (lambda: TorchRuntime().open(None, None, 1), lambda: torch_source("vgg16")):
    try:
        call()
    except MissingExtraError as error:
        print(len(structure.units), error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.count("pip install 'edgemesh[torch]'") == 2


def test_the_version_is_that_of_the_library() -> None:
    assert (
        TorchRuntime().version() == torch.__version__.split("+")[0]
        or TorchRuntime().version() == torch.__version__
    )


def test_a_graph_needs_no_weights_at_all(tmp_path: Path) -> None:
    whole = graph()
    bare = TorchGraph("bare", whole.values[2:4], (0,), (), (), (operator("relu.default", (0,), 1),), (1,))
    write_model(tmp_path / "net", bare, {}, lambda name: b"")
    model, units = opened(tmp_path / "net")

    np.testing.assert_array_equal(model.load(0, units).run([X])[0], np.maximum(X, 0))
