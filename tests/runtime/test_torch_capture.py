"""Capturing: what becomes content, what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgemesh.errors import ModelError
from edgemesh.model.torch_file import read_graph, read_header
from edgemesh.runtime.torch_capture import capture, capture_pt2
from tests.runtime.torch_content import arrays, captured, opened
from tests.runtime.torch_networks import network


class Calls(nn.Module):
    """A module whose forward is one function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor):
        return self.function(x)


def in_autocast(x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return x.exp()


def test_equal_modules_give_equal_bytes(tmp_path: Path) -> None:
    first = captured(*network("gpt"), tmp_path / "a")
    second = captured(*network("gpt"), tmp_path / "b")

    assert first.read_bytes() == second.read_bytes()


def test_tied_parameters_are_stored_once_and_constants_are_not_activations(tmp_path: Path) -> None:
    path = captured(*network("gpt"), tmp_path / "net")
    graph = read_graph(path)

    with path.open("rb") as file:
        _, tensors = read_header(file, path.stat().st_size)
    # Which of its two names it is stored under is the exporter's choice.
    assert ("embed.weight" in tensors) != ("head.weight" in tensors)
    assert {operator.target for operator in graph.constants} >= {"aten.arange.default", "aten.triu.default"}
    assert not any(operator.target == "aten.triu.default" for operator in graph.operators)


def test_weights_start_at_aligned_places(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 16), nn.Linear(16, 32))

    data = captured(module, (torch.randn(1, 3),), tmp_path / "net").read_bytes()

    assert data.find(module[2].weight.detach().numpy().tobytes()) % 64 == 0
    assert data.find(module[1].weight.detach().numpy().tobytes()) % 64 == 0


def test_outputs_are_named_after_their_place(tmp_path: Path) -> None:
    cases = {
        "one": (lambda x: x + 1, ["output"]),
        "nested": (lambda x: {"boxes": x + 1, "more": [x + 2, x + 3]}, ["boxes", "more.0", "more.1"]),
        "pair": (lambda x: (x + 1, x), ["output.0", "x"]),
        "taken": (lambda x: {"x": x + 1}, ["x_out"]),
    }
    for name, (function, wanted) in cases.items():
        graph = capture(Calls(function), (torch.randn(2),), tmp_path / name, name)
        assert [graph.values[value].name for value in graph.outputs] == wanted


def test_operators_that_nothing_reads_and_dropout_are_left_out(tmp_path: Path) -> None:
    module = nn.Sequential(Calls(lambda x: (x.exp(), x.sin())[1]), nn.Dropout(0.5))

    graph = capture(module, (torch.randn(3),), tmp_path / "net", "net")

    assert [operator.target for operator in graph.operators] == ["aten.sin.default"]
    assert graph.operators[0].name == "0 sin"


def test_the_operators_of_python_between_masks_are_those_of_bits(tmp_path: Path) -> None:
    """Found by a reader: ``(x > 0) & (x < 1)`` was refused as ``aten.__and__.Tensor``."""
    module = Calls(lambda x: ((x > 0) & (x < 1), (x > 1) | (x < 0), (x > 0) ^ (x > 1), (x > 0) & True))
    inputs = (torch.tensor([-1.0, 0.5, 2.0]),)

    model, units = opened(captured(module, inputs, tmp_path / "net"))

    for found, wanted in zip(model.load(0, units).run(arrays(inputs)), module(*inputs), strict=True):
        np.testing.assert_array_equal(found, wanted.numpy(), strict=True)


def written_after(share):
    """A forward that writes to memory in place which the result of ``share`` may show."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        own = x * 1
        shared = share(own)
        own.relu_()
        return shared

    return forward


def written_through(share):
    """A forward that writes to the result of ``share`` and returns what it was made from."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        own = x * 1
        share(own).relu_()
        return own

    return forward


@pytest.mark.parametrize(
    ("forward", "named"),
    [
        (written_after(lambda x: torch.einsum("ij->ji", x)), "einsum"),
        (written_after(lambda x: torch.einsum("ij->ji", x).reshape(3, 1)), "einsum"),
        (written_through(lambda x: torch.einsum("ij->ji", x)), "einsum"),
        (written_after(lambda x: torch.meshgrid(x[0], x[0], indexing="ij")[1]), "meshgrid"),
    ],
)
def test_a_write_in_place_to_memory_that_is_shared_unseen_is_refused_by_name(
    forward, named: str, tmp_path: Path
) -> None:
    """Found by a reader: relu changes nothing of a positive example, other inputs gave other bits."""
    with pytest.raises(ModelError, match=f"writes in place, at relu_.*, to memory that {named}"):
        capture(Calls(forward), (torch.rand(1, 3),), tmp_path / "net", "net")


def test_a_write_in_place_to_what_einsum_made_is_taken(tmp_path: Path) -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        product = torch.einsum("ij,kj->ik", x, x).relu_()
        return product, torch.einsum("ij->ji", x * 1).relu_(), x * 2

    inputs = (torch.randn(2, 3),)

    model, units = opened(captured(Calls(forward), inputs, tmp_path / "net"))

    for found, wanted in zip(model.load(0, units).run(arrays(inputs)), forward(*inputs), strict=True):
        np.testing.assert_array_equal(found, wanted.numpy(), strict=True)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: x + torch.rand(3), "aten.rand.default"),
        (lambda x: x.to(torch.bfloat16).float(), "bfloat16"),
        (torch.nonzero, "aten.nonzero.default"),
        (lambda x: x[x > 0], "shape that depends on data"),
        (lambda x: torch.as_strided(x, (2, 2), (1, 1)), "aten.as_strided.default"),
        (lambda x: torch.linalg.matrix_exp(torch.outer(x, x)), "aten.linalg_matrix_exp.default"),
        (lambda x: x @ torch.zeros(4), "cannot be exported"),
        (lambda x: x if x.sum() > 0 else -x, "cannot be exported"),
        (lambda x: torch.nn.functional.dropout(x, 0.5, training=True), "training mode"),
        (lambda x: 3, "no tensor"),
        (in_autocast, "autocast"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(function, named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=named):
        capture(Calls(function), (torch.randn(3),), tmp_path / "net", "net")
    assert not (tmp_path / "net").exists()


def test_a_module_that_keeps_a_state_is_refused_by_name(tmp_path: Path) -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return x * self.count

    with pytest.raises(ModelError, match="count"):
        capture(Counter(), (torch.randn(3),), tmp_path / "net", "net")


def test_a_pt2_file_is_only_loaded_when_trusted(tmp_path: Path) -> None:
    module, inputs = network("resnet")
    source = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(module, inputs), source)

    with pytest.raises(ModelError, match="--trust"):
        capture_pt2(source, tmp_path / "refused", "net", trusted=False)
    capture_pt2(source, tmp_path / "net", "net", trusted=True)

    model, units = opened(tmp_path / "net")
    with torch.inference_mode():
        wanted = module(*inputs).numpy()
    np.testing.assert_array_equal(model.load(0, units).run(arrays(inputs))[0], wanted, strict=True)
    with pytest.raises(ModelError, match="not an exported program"):
        capture_pt2(tmp_path / "net", tmp_path / "again", "net", trusted=True)
