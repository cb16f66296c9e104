"""Small networks of the shapes that are hard to cut: branches, long skips, attention, recurrence, views."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


def _cbr(before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_cbr(before, after, 3, stride), *_cbr(after, after)[:2])
        self.skip = nn.Identity() if stride == 1 else nn.Sequential(*_cbr(before, after, 1, stride)[:2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        y += self.skip(x)
        return F.relu_(y)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_cbr(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(
            ResidualBlock(16, 16, 1),
            ResidualBlock(16, 32, 2),
            ResidualBlock(32, 32, 1),
            ResidualBlock(32, 64, 2),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Inception(nn.Module):
    def __init__(self, before: int) -> None:
        super().__init__()
        self.a = _cbr(before, 8, 1)
        self.b = nn.Sequential(_cbr(before, 8, 1), _cbr(8, 12))
        self.c = nn.Sequential(_cbr(before, 4, 1), _cbr(4, 8, 5))
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1), _cbr(before, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1)


class GoogLeNet(nn.Module):
    """Branches, and a second output that is made early."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _cbr(3, 16, 3, 2)
        self.first, self.second = Inception(16), Inception(32)
        self.side, self.head = nn.Linear(32, 5), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.first(self.stem(x))
        side = self.side(x.mean((2, 3)))
        return {"logits": self.head(self.second(F.max_pool2d(x, 2)).mean((2, 3))), "side": side}


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_cbr(3, 8), _cbr(8, 16), _cbr(16, 32)])
        self.bottom = _cbr(32, 32)
        self.up = nn.ModuleList([nn.ConvTranspose2d(c, c, 2, 2) for c in (32, 16, 8)])
        self.merge = nn.ModuleList([_cbr(64, 16), _cbr(32, 8), _cbr(16, 8)])
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, merge in zip(self.up, self.merge):
            x = merge(torch.cat([up(x), skips.pop()], 1))
        return F.interpolate(self.head(x), scale_factor=2.0, mode="bilinear")


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.position = nn.Parameter(torch.randn(1, 17, 32))
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=first, activation="gelu")
            for first in (True, False)
        )
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for layer in self.encoder:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class Gpt(nn.Module):
    """Causal attention over one fused projection, tied embeddings, positions made from nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(50, 32), nn.Embedding(16, 32)
        self.attend = nn.ModuleList(nn.Linear(32, 96) for _ in range(2))
        self.project = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
        self.expand = nn.ModuleList(nn.Linear(32, 128) for _ in range(2))
        self.reduce = nn.ModuleList(nn.Linear(128, 32) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(5))
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        steps = tokens.shape[1]
        x = self.embed(tokens) + self.position(torch.arange(steps))
        mask = torch.full((steps, steps), float("-inf")).triu(1)
        for i in range(2):
            q, k, v = (
                part.view(1, steps, 4, 8).transpose(1, 2)
                for part in self.attend[i](self.norms[2 * i](x)).split(32, 2)
            )
            if i == 0:
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            else:
                y = ((q @ k.transpose(-2, -1)) / 8**0.5 + mask).softmax(-1) @ v
            x = x + self.project[i](y.transpose(1, 2).reshape(1, steps, 32))
            x = x + self.reduce[i](F.gelu(self.expand[i](self.norms[2 * i + 1](x)), approximate="tanh"))
        return self.head(self.norms[4](x))


class WindowAttention(nn.Module):
    """Shifted windows (Swin): roll, permute, expanded and strided tensors alive across cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.register_buffer("bias", torch.randn(1, 2, 16, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shifted = torch.roll(x, (-2, -2), (1, 2))
        windows = shifted.view(1, 2, 4, 2, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(4, 16, 16)
        q, k, v = self.qkv(windows).reshape(4, 16, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * 0.35) @ k.transpose(-2, -1) + self.bias.expand(4, -1, -1, -1)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(1, 2, 2, 4, 4, 16)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(1, 8, 8, 16)
        scale = x.mean((1, 2), keepdim=True).expand(1, 8, 8, 16)
        return x + torch.roll(self.out(y), (2, 2), (1, 2)) * torch.sigmoid(scale)


class ShuffleNet(nn.Module):
    """Channel halves that stay views of one tensor across many operators."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _cbr(3, 16, 3, 2)
        self.branches = nn.ModuleList(
            nn.Sequential(_cbr(8, 8, 1), _cbr(8, 8, 3, groups=8), _cbr(8, 8, 1)) for _ in range(3)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for branch in self.branches:
            a, b = x.chunk(2, 1)
            x = torch.cat([a, branch(b)], 1)
            x = x.view(1, 2, 8, *x.shape[2:]).transpose(1, 2).reshape(1, 16, *x.shape[2:])
        return self.head(x.amax((2, 3)))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 * (i + 1)) for i in range(5))
        self.layers = nn.ModuleList(nn.Conv2d(8 * (i + 1), 8, 3, padding=1) for i in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers):
            features.append(layer(F.relu(norm(torch.cat(features, 1)))))
        return torch.cat(features, 1).mean((2, 3))


class ConvNeXt(nn.Module):
    """Norms over channels last, by permutation: dense tensors that are not in C order cross cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.depth = nn.ModuleList(nn.Conv2d(16, 16, 7, padding=3, groups=16) for _ in range(2))
        self.norm = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.wide = nn.ModuleList(nn.Linear(16, 64) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Linear(64, 16) for _ in range(2))
        self.scale = nn.Parameter(torch.ones(2, 16, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for i in range(2):
            y = self.norm[i](self.depth[i](x).permute(0, 2, 3, 1))
            x = x + self.narrow[i](F.gelu(self.wide[i](y))).permute(0, 3, 1, 2) * self.scale[i]
        return x.mean((2, 3))


class Detector(nn.Module):
    """Several scales, sigmoid and softmax heads, boxes and classes (YOLO-like)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.low, self.high = _cbr(3, 8, 3, 2), _cbr(8, 16, 3, 2), _cbr(16, 32, 3, 2)
        self.heads = nn.ModuleList([nn.Conv2d(32, 9, 1), nn.Conv2d(48, 9, 1)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low = self.low(self.stem(x))
        high = F.silu(self.high(low))
        merged = torch.cat([F.interpolate(high, scale_factor=2.0), low], 1)
        flat = torch.cat([h(m).flatten(2) for h, m in zip(self.heads, (high, merged))], 2).transpose(1, 2)
        boxes, scores = flat.split([4, 5], 2)
        centre, size = boxes.chunk(2, -1)
        best, index = scores.max(-1)
        corners = torch.cat([centre.sigmoid() - size.exp() / 2, centre.sigmoid() + size.exp() / 2], -1)
        return corners, best, index


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(32, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, (h, _) = self.lstm(x)
        x, _ = self.gru(x)
        return self.head(x[:, -1]), h


class WritesInPlace(nn.Module):
    """Assignments to parts of tensors that are read later, a write to the input, a constant output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.drop = nn.Dropout()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x.sub_(self.mean).mul_(2.0)
        y = self.conv(x)
        half = y[:, :4]
        y[:, 4:] = half * 2
        half.clamp_(0.0, 1.0)
        y += torch.tensor([[1.0], [2.0]]).sum()
        return self.drop(y), half.sum((2, 3)), torch.arange(4) * 2


class ManyInputs(nn.Module):
    """Integer, boolean and float inputs, one of them not read, one returned as it is."""

    def forward(
        self, x: torch.Tensor, where: torch.Tensor, unread: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = torch.where(where, x, x * 2).half().float()
        return y[:, index].cumsum(1), x, (y > 0).to(torch.int64)


def _image(size: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(1, 3, size, size),)


CASES = {
    "resnet": (ResNet, lambda: _image(64)),
    "googlenet": (GoogLeNet, lambda: _image(32)),
    "unet": (UNet, lambda: _image(32)),
    "vit": (VisionTransformer, lambda: _image(32)),
    "gpt": (Gpt, lambda: (torch.randint(0, 50, (1, 12)),)),
    "swin": (WindowAttention, lambda: (torch.randn(1, 8, 8, 16),)),
    "shufflenet": (ShuffleNet, lambda: _image(32)),
    "densenet": (DenseNet, lambda: _image(32)),
    "convnext": (ConvNeXt, lambda: _image(32)),
    "detector": (Detector, lambda: _image(32)),
    "recurrent": (Recurrent, lambda: (torch.randn(1, 6, 12),)),
    "in-place": (WritesInPlace, lambda: _image(8)),
    "many-inputs": (
        ManyInputs,
        lambda: (torch.randn(2, 6), torch.rand(2, 6) > 0.5, torch.zeros(3), torch.tensor([4, 0, 1])),
    ),
}
"""Name to the module's class and a function that makes its example inputs."""


def network(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The network of that name with seeded weights in eval mode, and its example inputs."""
    torch.manual_seed(7)
    build, inputs = CASES[name]
    module = build().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return module, inputs()
