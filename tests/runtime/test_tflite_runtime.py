"""How the TensorFlow Lite runtime loads and runs ranges."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgemesh.errors import MissingExtraError, ModelError, RunError
from edgemesh.runtime.tflite import TfliteRuntime
from tests.runtime.tflite_range import manifest_of, opened
from tests.tflite_models import ModelBuilder, chain

_VALUES = np.linspace(-2.0, 3.0, 8, dtype=np.float32).reshape(2, 4)


def test_outputs_stay_valid_after_the_next_run(tmp_path: Path) -> None:
    _, model = opened(chain("ABS", "NEG").content(), tmp_path)
    loaded = model.load(0, 2)

    (first,) = loaded.run([_VALUES])
    loaded.run([_VALUES * 100])

    assert np.array_equal(first, -np.abs(_VALUES))


def test_inputs_may_be_read_only_and_strided(tmp_path: Path) -> None:
    _, model = opened(chain("ABS").content(), tmp_path)
    strided = np.repeat(_VALUES, 2, axis=1)[:, ::2]
    strided.flags.writeable = False

    (output,) = model.load(0, 1).run([strided])

    assert np.array_equal(output, np.abs(_VALUES))


def test_tensors_passed_through_come_out_in_the_order_of_the_boundary(tmp_path: Path) -> None:
    builder = chain("ABS", "NEG", "COS")
    builder.operator("ADD", [1, 3], [builder.tensor()])
    builder.ends([0], [2, 4])
    manifest, model = opened(builder.content(), tmp_path)
    before = [np.abs(_VALUES), -np.abs(_VALUES)]
    assert [tensor.name for tensor in manifest.boundaries[2]] == ["t1", "t2"]

    after = model.load(2, 3).run(before)
    end = model.load(3, 4).run(after)

    assert [tensor.name for tensor in manifest.boundaries[3]] == ["t1", "t2", "t3"]
    assert all(np.array_equal(a, b) for a, b in zip(after, before))
    assert np.array_equal(end[0], before[1])
    assert np.array_equal(end[1], before[0] + after[2])


def test_a_range_that_makes_nothing_passes_everything_through(tmp_path: Path) -> None:
    builder = chain("ABS", "NEG")
    builder.ends([0], [1])
    _, model = opened(builder.content(), tmp_path)
    loaded = model.load(1, 2)

    assert np.array_equal(loaded.run([_VALUES])[0], _VALUES)
    assert loaded.memory_bytes == 0
    with pytest.raises(RunError, match="0 tensors came for a boundary of 1"):
        loaded.run([])


def test_scalars_and_integers_cross_a_cut(tmp_path: Path) -> None:
    builder = ModelBuilder()
    start, middle, end = (builder.tensor((), dtype="int32") for _ in range(3))
    two = builder.tensor(dtype="int32", data=2)
    builder.operator("ADD", [start, two], [middle], ("AddOptions", {}))
    builder.operator("MUL", [middle, two], [end], ("MulOptions", {}))
    builder.ends([start], [end])
    _, model = opened(builder.content(), tmp_path)

    (output,) = model.load(1, 2).run(model.load(0, 1).run([np.array(5, np.int32)]))

    assert (output.dtype, output.shape, int(output)) == (np.int32, (), 14)


def _branching() -> bytes:
    """ABS, then IF: graph 2 doubles, graph 3 negates, then SUB of the input."""
    builder = ModelBuilder()
    start, flag, middle, chosen, end = (
        builder.tensor(), builder.tensor((), dtype="bool"), builder.tensor(), builder.tensor(),
        builder.tensor(),
    )  # fmt: skip
    builder.operator("ABS", [start], [middle])
    options = {"then_subgraph_index": 2, "else_subgraph_index": 3}
    builder.operator("IF", [flag, middle], [chosen], ("IfOptions", options))
    builder.operator("SUB", [chosen, start], [end])
    builder.ends([start, flag], [end])
    for kinds in (("ABS",), ("ADD",), ("NEG",)):
        builder.graph()
        a, b = builder.tensor(), builder.tensor()
        builder.operator(*kinds, [a, a] if kinds == ("ADD",) else [a], [b])
        builder.ends([a], [b])
    return builder.content()


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_runs_in_its_slice(cut: int, flag: bool, tmp_path: Path) -> None:
    _, model = opened(_branching(), tmp_path)
    inputs = [_VALUES, np.array(flag)]

    (whole,) = model.load(0, 3).run(inputs)
    (parts,) = model.load(cut, 3).run(model.load(0, cut).run(inputs))

    assert np.array_equal(whole, np.abs(_VALUES) * (2 if flag else -1) - _VALUES)
    assert parts.tobytes() == whole.tobytes()


def test_a_job_does_not_see_the_state_of_the_job_before(tmp_path: Path) -> None:
    builder = ModelBuilder()
    start, end, state = (
        builder.tensor((1, 2)),
        builder.tensor((1, 2)),
        builder.tensor((1, 2), is_variable=True),
    )
    weights, recurrent = builder.tensor(data=np.eye(2)), builder.tensor(data=np.eye(2))
    bias = builder.tensor(data=[0.0, 0.0])
    builder.operator("RNN", [start, weights, recurrent, bias, state], [end], ("RNNOptions", {}))
    builder.ends([start], [end])
    _, model = opened(builder.content(), tmp_path)
    loaded = model.load(0, 1)

    results = [loaded.run([np.array([[1.0, 2.0]], np.float32)])[0].tolist() for _ in range(3)]

    assert results == [[[1.0, 2.0]]] * 3


def test_wrong_inputs_fail_the_run_and_not_the_range(tmp_path: Path) -> None:
    _, model = opened(chain("ABS").content(), tmp_path)
    loaded = model.load(0, 1)

    for wrong in ([], [_VALUES.astype(np.float64)], [_VALUES[:1]]):
        with pytest.raises(RunError, match="units 0 to 1 of model tested"):
            loaded.run(wrong)

    assert np.array_equal(loaded.run([_VALUES])[0], np.abs(_VALUES))


def test_a_result_of_another_size_than_the_manifest_says_fails_the_run(tmp_path: Path) -> None:
    builder = chain("ABS")
    shape = builder.tensor((2,), dtype="int32")
    builder.operator("RESHAPE", [1, shape], [builder.tensor((4, 2))])
    builder.ends([0, shape], [3])
    manifest, model = opened(builder.content(), tmp_path)
    loaded = model.load(0, manifest.unit_count)

    (output,) = loaded.run([_VALUES, np.array([4, 2], np.int32)])
    with pytest.raises(RunError, match=r"'t3' the shape \(8, 1\), not \(4, 2\)"):
        loaded.run([_VALUES, np.array([8, 1], np.int32)])

    assert output.shape == (4, 2)


def test_what_the_interpreter_refuses_is_an_error_of_the_model(tmp_path: Path) -> None:
    builder = ModelBuilder()
    a, b = builder.tensor((2, 4)), builder.tensor((3, 3))
    builder.operator("ADD", [a, b], [builder.tensor((2, 4))], ("AddOptions", {}))
    builder.ends([a, b], [2])
    _, model = opened(builder.content(), tmp_path)

    with pytest.raises(ModelError, match="units 0 to 1 of model tested cannot be loaded"):
        model.load(0, 1)


def test_a_name_that_is_no_text_does_not_hinder_a_run(tmp_path: Path) -> None:
    builder = chain("ABS", "NEG")
    builder.graphs[0]["tensors"][0]["name"] = b"\xff\x80"
    _, model = opened(builder.content(), tmp_path)

    (output,) = model.load(0, 1).run([_VALUES])

    assert np.array_equal(output, np.abs(_VALUES))


@pytest.mark.parametrize("content", [b"", b"no model", chain("ABS").content()[:200]])
def test_damaged_content_is_refused_with_the_name_of_the_model(content: bytes, tmp_path: Path) -> None:
    manifest = manifest_of(chain("ABS").content())
    (tmp_path / "damaged").write_bytes(content)

    with pytest.raises(ModelError, match="model tested"):
        TfliteRuntime().open(tmp_path / "damaged", manifest, 1)


def test_content_that_is_not_there_is_refused_with_the_name_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model tested cannot be read"):
        TfliteRuntime().open(tmp_path / "nothing", manifest_of(chain("ABS").content()), 1)


def test_a_manifest_of_another_model_is_refused_with_the_name_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(chain("ABS", "NEG").content())
    manifest = replace(manifest_of(chain("ABS", "NEG", shape=(4, 4)).content()), name="other")

    with pytest.raises(ModelError, match="model other: the manifest describes other tensors"):
        TfliteRuntime().open(path, manifest, 1).load(0, 1)


def test_without_a_library_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = opened(chain("ABS").content(), tmp_path)
    assert TfliteRuntime().version() is not None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert TfliteRuntime().version() is None
    with pytest.raises(MissingExtraError, match=r"edgemesh\[tflite\]"):
        model.load(0, 1)


def test_memory_counts_weights_and_activations(tmp_path: Path) -> None:
    _, model = opened(chain("ABS", shape=(1000,)).content(), tmp_path)

    assert 8000 <= model.load(0, 1).memory_bytes <= 12_000
