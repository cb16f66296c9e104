"""A cut model gives the bits of the whole, at every cut of every kind of network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from edgemesh.model.torch_file import read_graph
from edgemesh.zoo import networks
from tests.runtime.torch_content import arrays, assert_every_cut_is_exact, captured, opened, sent
from tests.runtime.torch_networks import CASES, network


@pytest.mark.parametrize("name", CASES)
def test_every_operator_cut_is_bit_exact_and_the_whole_equals_the_module(name: str, tmp_path: Path) -> None:
    module, inputs = network(name)
    torch.set_num_threads(2)

    model, units = opened(captured(module, inputs, tmp_path / name), every_operator=True)
    whole = assert_every_cut_is_exact(model, units, arrays(inputs))

    # Transformer layers have a fused call of their own in eval mode, which sums in another order.
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.inference_mode():
        leaves = pytree.tree_leaves(module(*(tensor.clone() for tensor in inputs)))
    torch.backends.mha.set_fastpath_enabled(True)
    assert len(whole) == len(leaves)
    for found, wanted in zip(whole, leaves):
        np.testing.assert_array_equal(found, wanted.numpy(), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "width", "size"),
    [(networks.alexnet, 0.25, 224), (networks.vgg16, 0.125, 96), (networks.mobilenetv2, 1.0, 96)],
)
def test_every_unit_cut_of_the_zoo_networks_is_bit_exact(build, width, size, tmp_path: Path) -> None:
    module, inputs = build(width=width), (torch.randn(1, 3, size, size),)
    torch.set_num_threads(2)

    model, units = opened(captured(module, inputs, tmp_path / "net"))
    [whole] = assert_every_cut_is_exact(model, units, arrays(inputs))

    with torch.inference_mode():
        np.testing.assert_array_equal(whole, module(*inputs).numpy(), strict=True)


@pytest.mark.slow
def test_full_size_vgg16_is_bit_exact_at_its_narrowest_cut(tmp_path: Path) -> None:
    module, inputs = networks.vgg16(), (torch.randn(1, 3, 224, 224),)
    torch.set_num_threads(2)

    path = captured(module, inputs, tmp_path / "vgg16")
    model, units = opened(path)
    middle = sent(model.load(0, units - 3).run(arrays(inputs)))
    [result] = model.load(units - 3, units).run(middle)

    with torch.inference_mode():
        np.testing.assert_array_equal(result, module(*inputs).numpy(), strict=True)
    assert path.stat().st_size > 553e6


def test_three_ranges_over_two_cuts_are_bit_exact(tmp_path: Path) -> None:
    module, inputs = network("unet")
    model, units = opened(captured(module, inputs, tmp_path / "net"))
    whole = model.load(0, units).run(arrays(inputs))

    tensors = arrays(inputs)
    for start, stop in ((0, units // 3), (units // 3, units // 2), (units // 2, units)):
        tensors = sent(model.load(start, stop).run(tensors))

    np.testing.assert_array_equal(tensors[0], whole[0], strict=True)


def test_views_with_gaps_and_repetitions_get_their_layout_back(tmp_path: Path) -> None:
    class Views(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = x.sigmoid().chunk(2, 1)
            wide = left.mean(0, keepdim=True).expand(6, -1)
            return (right.transpose(0, 1) @ wide).sum(0) + left.sum()

    inputs = (torch.randn(6, 50),)
    model, units = opened(captured(Views().eval(), inputs, tmp_path / "net"), every_operator=True)
    layouts = {value.strides for value in read_graph(tmp_path / "net").values}

    assert (50, 1) in layouts and (0, 1) in layouts
    assert_every_cut_is_exact(model, units, arrays(inputs))


def test_a_window_that_slides_over_memory_is_never_cut(tmp_path: Path) -> None:
    class Windows(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.tanh().unfold(1, 4, 1).exp().sum(2).sqrt()

    inputs = (torch.randn(2, 9),)
    model, units = opened(captured(Windows().eval(), inputs, tmp_path / "net"), every_operator=True)

    # tanh | unfold exp | sum | sqrt: the border between unfold and exp is missing.
    assert units == len(read_graph(tmp_path / "net").operators) - 1
    assert_every_cut_is_exact(model, units, arrays(inputs))
