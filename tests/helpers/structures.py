"""Networks that hold and call their layers in every way that is common; from tokens to classes."""

import torch
from torch import Tensor, nn

SHAPE = (4, 5)
"""Tokens and features."""


class Scaled(nn.Module):
    """A layer that is called with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor, *, scale: float) -> Tensor:
        return x + scale * self.inner(x)  # type: ignore[no-any-return]


class Keywords(nn.Module):
    """Layers in a list, each called with a keyword."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, n_classes)
        self.layers = nn.ModuleList([Scaled(), Scaled()])

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for layer in self.layers:
            h = layer(h, scale=0.5)
        return self.head(h.mean(1))  # type: ignore[no-any-return]


class Named(nn.Module):
    """Layers in a dictionary, and a part of a `Sequential`."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, n_classes)
        self.layers = nn.ModuleDict({"first": nn.Linear(8, 8), "second": nn.Linear(8, 8)})
        self.rest = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for layer in self.layers.values():
            h = torch.relu(layer(h))
        return self.head(self.rest[:1](h).mean(1))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """The encoder of torch, which reads attributes of its layers."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, n_classes)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))  # type: ignore[no-any-return]


class Repeated(nn.Module):
    """One layer that stands at two places."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, n_classes)
        self.first = self.again = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.again(torch.relu(self.first(self.embed(x)))))
        return self.head(h.mean(1))  # type: ignore[no-any-return]
