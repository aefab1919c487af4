"""Small architectures, one of every kind that columns are made of, and networks of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.engine import Adapter, MLPAdapter, ProgressiveNetwork


@dataclass(frozen=True)
class Kind:
    """One architecture: how it is made for a number of classes, what it reads, and its default sites."""

    name: str
    make: Callable[[int], nn.Module]
    input_shape: tuple[int, ...]
    sites: tuple[str, ...] = field(default=())
    vocabulary: int = 0
    """Where it is not 0 the network reads whole numbers below it, as a text has."""
    adapter: Adapter = field(default_factory=MLPAdapter)
    """The laterals with which it is tried."""
    lr: float = 0.001
    """A learning rate at which it stays as it is: statistics of a norm follow a few steps only slowly."""

    def build(self, n_classes: int = 3, seed: int = 0) -> nn.Module:
        """A module with fixed weights, lazy layers made; the generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.make(n_classes)
            module.eval()(self.example(2))
        return module.train()

    def example(self, batch: int = 16, seed: int = 0) -> Tensor:
        """A batch (B, *input_shape)."""
        random = torch.Generator().manual_seed(seed)
        if self.vocabulary:
            return torch.randint(self.vocabulary, (batch, *self.input_shape), generator=random)
        return torch.randn(batch, *self.input_shape, generator=random)


def mlp(n_classes: int, widths: tuple[int, ...] = (8, 7), inputs: int = 6) -> nn.Sequential:
    """A plain multi-layer perceptron."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, n_classes))


def mlp_norm(n_classes: int) -> nn.Sequential:
    """A perceptron with BatchNorm and dropout."""
    first = (nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
    return nn.Sequential(*first, nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_classes))


class LeNet(nn.Module):
    """Convolutions without padding, layers as attributes."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)
        self.fc1, self.fc2 = nn.Linear(5 * 2 * 2, 9), nn.Linear(9, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        h = functional.max_pool2d(torch.relu(self.conv2(h)), 2)
        return self.fc2(torch.relu(self.fc1(h.flatten(1))))  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two normalised convolutions and a shortcut, projected where it strides."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.bn2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)
        self.down = nn.Conv2d(n_in, n_out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(h)) + self.down(x))


class ResNet(nn.Module):
    """A residual network with BatchNorm."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.layer1 = nn.Sequential(ResidualBlock(4, 4, 1))
        self.layer2 = nn.Sequential(ResidualBlock(4, 6, 2), ResidualBlock(6, 6, 1))
        self.fc = nn.Linear(6, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


class AttentionBlock(nn.Module):
    """A transformer block from tokens to tokens; the attention inside returns a tuple."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(functional.gelu(self.up(self.norm2(x))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Embedding, blocks, mean over tokens, head."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.blocks = nn.ModuleList([AttentionBlock(8), AttentionBlock(8)])
        self.head = nn.Linear(8, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean(1))  # type: ignore[no-any-return]


class GRUBlock(nn.Module):
    """A recurrent layer that returns the sequence alone."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, n_out, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Two recurrent blocks and a head on the last token."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList([GRUBlock(5, 6), GRUBlock(6, 7)])
        self.head = nn.Linear(7, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.cells:
            x = cell(x)
        return self.head(x[:, -1])  # type: ignore[no-any-return]


class Gated(nn.Module):
    """A network with a buffer that `state_dict` leaves out."""

    gate: Tensor

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, n_classes)
        self.register_buffer("gate", torch.linspace(0.5, 1.5, 8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x)) * self.gate)  # type: ignore[no-any-return]


class DenseNet(nn.Module):
    """Every layer reads the concatenation of all before it."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.layers = nn.ModuleList([self._layer(3 + 2 * i) for i in range(3)])
        self.head = nn.Linear(9, n_classes)

    @staticmethod
    def _layer(n_in: int) -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU(), nn.Conv2d(n_in, 2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for layer in self.layers:
            h = torch.cat([h, layer(h)], 1)
        return self.head(h.mean((2, 3)))  # type: ignore[no-any-return]


class PixelBlock(nn.Module):
    """A residual block on the features of every pixel, which stand last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(self.norm(x))  # type: ignore[no-any-return]


def lazy(n_classes: int) -> nn.Sequential:
    """A network whose first shapes are found on its first call."""
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.BatchNorm1d(8), nn.LazyLinear(n_classes))


def pretrained(n_classes: int) -> nn.Sequential:
    """A frozen trunk, as a pretrained one, behind an input normalisation without parameters, and a head that learns."""
    trunk = nn.Sequential(nn.BatchNorm1d(6, affine=False), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    return nn.Sequential(trunk.requires_grad_(False), nn.Linear(8, n_classes))


def swin(n_classes: int) -> nn.Sequential:
    """Blocks over images whose features stand last, (H, W, C)."""

    return nn.Sequential(nn.Linear(3, 6), PixelBlock(6), PixelBlock(6), nn.Flatten(), nn.Linear(5 * 4 * 6, n_classes))


MLP = Kind("mlp", mlp, (6,), ("2", "4"))
MLP_NORM = Kind("mlp_norm", mlp_norm, (6,), ("4", "7"))
LENET = Kind("lenet", LeNet, (1, 14, 14), ("conv2", "fc1", "fc2"))
RESNET = Kind("resnet", ResNet, (1, 8, 8), ("layer1.0", "layer2.0", "layer2.1", "fc"))
TRANSFORMER = Kind("transformer", Transformer, (4, 5), ("blocks.0", "blocks.1", "head"))
RECURRENT = Kind("recurrent", Recurrent, (4, 5), ("cells.1", "head"))
GATED = Kind("gated", Gated, (6,), ("fc2",))
DENSE = Kind("dense", DenseNet, (1, 6, 6), ("layers.0.2", "layers.1.2", "layers.2.2", "head"))
LAZY = Kind("lazy", lazy, (6,), ("3",))
PRETRAINED = Kind("pretrained", pretrained, (6,), ("0.3", "1"))
SWIN = Kind("swin", swin, (5, 4, 3), ("1", "2", "4"))

ZOO = (MLP, MLP_NORM, LENET, RESNET, TRANSFORMER, RECURRENT, GATED, DENSE, LAZY, PRETRAINED, SWIN)

RANDOM = MLPAdapter(zero_init=False)
"""Laterals that matter from the start."""


def network(kind: Kind, n_columns: int, adapter: Adapter = RANDOM, seed: int = 0) -> ProgressiveNetwork:
    """Columns of one kind with unlike numbers of classes; the generator is left as it was."""
    net = ProgressiveNetwork(adapter)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for k in range(n_columns):
            net.add_column(kind.build(2 + k, seed + k), kind.example())
    return net
