"""AlexNet, VGG16 and MobileNetV2, built here with seeded random weights.

Layer names follow torchvision's state dicts, so trained weights load. The random ones keep the scale of
activations from layer to layer: what a network computes is meaningless, how long it takes and what crosses
its cuts is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

SEED = 20260
_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of each convolution; 0 is a pooling layer (Simonyan and Zisserman 2015, table 1, column D)."""
_MOBILENETV2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels, repeats, first stride of each stage (Sandler et al. 2018, table 2)."""


def alexnet(classes: int = 1000, width: float = 1.0) -> nn.Module:
    """AlexNet in its single-tower form (Krizhevsky 2014); 61.1 million parameters, input 3 x 224 x 224."""
    return _seeded(lambda: _AlexNet(classes, width))


def vgg16(classes: int = 1000, width: float = 1.0) -> nn.Module:
    """VGG16 (configuration D); 138.4 million parameters, input 3 x 224 x 224."""
    return _seeded(lambda: _Vgg16(classes, width))


def mobilenetv2(classes: int = 1000, width: float = 1.0) -> nn.Module:
    """MobileNetV2; 3.5 million parameters, input 3 x 224 x 224."""
    return _seeded(lambda: _MobileNetV2(classes, width))


def _scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, a multiple of 8 that loses at most a tenth (Sandler et al. 2018)."""
    if width == 1.0:
        return channels
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


class _AlexNet(nn.Module):
    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        a, b, c, d, hidden = (_scaled(channels, width) for channels in (64, 192, 384, 256, 4096))
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(a, b, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(b, c, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, d, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(d, d, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(d * 6 * 6, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


class _Vgg16(nn.Module):
    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in _VGG16:
            if channels == 0:
                layers.append(nn.MaxPool2d(2, stride=2))
                continue
            after = _scaled(channels, width)
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
            before = after
        hidden = _scaled(4096, width)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(before * 7 * 7, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


def _conv_bn_relu(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU6(inplace=True),
    )


class _InvertedResidual(nn.Module):
    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = before * expansion
        self._adds = stride == 1 and before == after
        layers: list[nn.Module] = [] if expansion == 1 else [_conv_bn_relu(before, hidden, 1)]
        layers += [
            _conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, after, 1, bias=False),
            nn.BatchNorm2d(after),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self._adds else self.conv(x)


class _MobileNetV2(nn.Module):
    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        before, last = _scaled(32, width), _scaled(1280, max(1.0, width))
        layers: list[nn.Module] = [_conv_bn_relu(3, before, 3, stride=2)]
        for expansion, channels, repeats, first_stride in _MOBILENETV2:
            after = _scaled(channels, width)
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                layers.append(_InvertedResidual(before, after, stride, expansion))
                before = after
        layers.append(_conv_bn_relu(before, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The network in eval mode, its weights drawn once from ``SEED``."""
    # Built without memory first: the layers' own initialisation takes seconds and is thrown away.
    with torch.device("meta"):
        network = build()
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for layers in network.modules():
            _initialise(list(layers.children()), generator)
    return network.eval()


def _initialise(layers: list[nn.Module], generator: torch.Generator) -> None:
    """Set the weights of neighbouring ``layers`` so that activations keep their variance.

    Uniform with variance ``gain^2 / fan_in`` (He et al. 2015, section 2.2): gain 2 makes up for the half that
    a ReLU cuts off. Uniform, as its bits come out equal on every processor.
    """
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        followed = any(isinstance(next_, (nn.ReLU, nn.ReLU6)) for next_ in layers[index + 1 : index + 3])
        bound = math.sqrt(3 * (2 if followed else 1) / layer.weight[0].numel())
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
