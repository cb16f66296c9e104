"""The networks of the zoo, and where other definitions come from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgemesh.errors import MissingExtraError, ModelError, SettingsError
from edgemesh.zoo import networks
from edgemesh.zoo.sources import NETWORKS, torch_source


@pytest.mark.parametrize(
    ("name", "parameters", "first", "last"),
    [
        ("alexnet", 61_100_840, "features.0.weight", "classifier.6.bias"),
        ("vgg16", 138_357_544, "features.0.weight", "classifier.6.bias"),
        ("mobilenetv2", 3_504_872, "features.0.0.weight", "classifier.1.bias"),
    ],
)
def test_parameters_and_their_names_are_those_of_the_literature(
    name: str, parameters: int, first: str, last: str
) -> None:
    with torch.inference_mode():
        source = torch_source(name)
        scores = source.module(*source.example_inputs)

    keys = list(source.module.state_dict())
    assert sum(parameter.numel() for parameter in source.module.parameters()) == parameters
    assert (keys[0], keys[-1]) == (first, last)
    assert not source.module.training
    # Neither vanished nor exploded, and not the same for every class.
    assert scores.shape == (1, 1000) and 0.1 < scores.std() < 10
    assert source.image is not None and source.image.mean[0] * source.image.scale[0] == pytest.approx(
        0.485 / 0.229
    )


def test_the_same_network_twice_has_the_same_weights() -> None:
    first, second = networks.mobilenetv2(width=0.25), networks.mobilenetv2(width=0.25)

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_trained_weights_are_loaded_by_name(tmp_path: Path) -> None:
    state = {key: tensor + 1 for key, tensor in networks.mobilenetv2().state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")

    loaded = torch_source("mobilenetv2", tmp_path / "weights.safetensors").module.state_dict()

    assert all(torch.equal(loaded[key], state[key]) for key in state)
    for name in ("other", "broken", "missing"):
        with pytest.raises(ModelError, match=name):
            torch_source("mobilenetv2", tmp_path / f"{name}.safetensors")


_DEFINITIONS = """
import torch

def pair():
    return torch.nn.Linear(2, 3), (torch.zeros(1, 2),)

def attribute():
    module = torch.nn.Linear(2, 3)
    module.example_inputs = torch.zeros(1, 2)
    return module

def bare():
    return torch.nn.Linear(2, 3)

def number():
    return 3
"""


def test_a_callable_gives_a_module_and_its_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgemesh_test_definitions.py").write_text(_DEFINITIONS)
    monkeypatch.syspath_prepend(tmp_path)

    for name in ("pair", "attribute"):
        source = torch_source(f"edgemesh_test_definitions:{name}")
        assert source.module(*source.example_inputs).shape == (1, 3)
        assert not source.module.training
    for name, said in (("bare", "example inputs"), ("number", "int"), ("absent", "absent")):
        with pytest.raises(ModelError, match=said):
            torch_source(f"edgemesh_test_definitions:{name}")
    with pytest.raises(ModelError, match="cannot be imported"):
        torch_source("edgemesh_test_nowhere:pair")


def test_a_source_of_no_known_form_names_the_forms() -> None:
    with pytest.raises(SettingsError, match=NETWORKS[0]):
        torch_source("resnet50")


def test_torchvision_that_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)

    with pytest.raises(MissingExtraError, match="pip install"):
        torch_source("torchvision:resnet18")
