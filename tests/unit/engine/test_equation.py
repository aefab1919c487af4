"""Columns compared, in double precision, with an independent transcription of equations 1 and 2."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import LinearAdapter, MLPAdapter, ProgressiveNetwork
from prognet.engine.adapters import Adapter
from prognet.engine.column import Column
from prognet.engine.laterals import LinearLateral, MLPLateral
from tests.helpers import reference
from tests.helpers.reference import Lateral, ReferenceColumn

WIDTHS = ((6, 16, 9, 3), (6, 9, 4, 2), (6, 31, 5, 4), (6, 5, 8, 3))
CHANNELS = ((2, 4, 3), (2, 3, 5), (2, 6, 2), (2, 2, 4))


def assert_equal_to_reference(net: ProgressiveNetwork, columns: Sequence[ReferenceColumn], x: Tensor) -> None:
    net.eval()
    expected = reference.outputs(columns, x)
    for k in range(len(net)):
        torch.testing.assert_close(net(x, k), expected[k], rtol=0, atol=1e-12)
    independent = reference.outputs([_alone(column) for column in columns], x)
    assert all((net(x, k) - independent[k]).abs().max() > 1e-3 for k in range(1, len(net)))  # laterals are not nothing


def _alone(column: ReferenceColumn) -> ReferenceColumn:
    return ReferenceColumn(column.layers, column.after, (None,) * len(column.layers))


def lateral(column: Column, site: str, features: Sequence[int], **form: object) -> Lateral | None:
    """The numbers of one lateral; a U of equation 1 is cut into one piece per source."""
    if not column.sources:
        return None
    module = column.adapters[site.replace(".", "/")]
    if isinstance(module, LinearLateral):
        return Lateral(U=torch.split(_matrix(module.U), list(features), 1), **form)  # type: ignore[arg-type]
    assert isinstance(module, MLPLateral)
    V, c = _matrix(module.V).flatten(1), _bias(module.V)
    return Lateral((_matrix(module.U),), V, c, module.alpha, **form)  # type: ignore[arg-type]


def _matrix(module: nn.Module) -> Tensor:
    assert isinstance(module.weight, Tensor)
    return module.weight


def _bias(module: nn.Module) -> Tensor:
    assert isinstance(module.bias, Tensor)
    return module.bias


def _same(h: Tensor) -> Tensor:
    return h


def random_network(backbones: Sequence[nn.Module], adapter: Adapter, x: Tensor) -> ProgressiveNetwork:
    """Columns whose every number is random, alphas and norms included."""
    net = ProgressiveNetwork(adapter)
    for backbone in backbones:
        net.add_column(backbone.double(), x)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return net


ADAPTERS = (
    LinearAdapter(zero_init=False),
    MLPAdapter(),
    MLPAdapter(hidden=3),
    MLPAdapter(hidden=0.5),
    MLPAdapter.paper(),
)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
@pytest.mark.parametrize("n_columns", [1, 2, 3, 4])
def test_multi_layer_perceptrons_equal_the_equation(adapter: Adapter, n_columns: int) -> None:
    x = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    widths = WIDTHS[:n_columns]
    backbones = [nn.Sequential(*_dense_layers(w)) for w in widths]
    net = random_network(backbones, adapter, x)
    columns = []
    for k, backbone in enumerate(backbones):
        features = [[w[i] for w in widths[:k]] for i in (1, 2)]
        layers = [reference.dense(_matrix(backbone[i]), _bias(backbone[i])) for i in (0, 2, 4)]
        laterals = (None, lateral(net.column(k), "2", features[0]), lateral(net.column(k), "4", features[1]))
        columns.append(ReferenceColumn(tuple(layers), (torch.relu, torch.relu, _same), laterals, tuple(range(k))))
    assert_equal_to_reference(net, columns, x)


def _dense_layers(widths: Sequence[int]) -> list[nn.Module]:
    a, b, c, d = widths
    return [nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d)]


@pytest.mark.parametrize("sources", [(0,), (1,), (0, 2), (2, 0), (1, 2)])
def test_chosen_sources_equal_the_equation(sources: tuple[int, ...]) -> None:
    x = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    backbones = [nn.Sequential(*_dense_layers(w)).double() for w in WIDTHS]
    reads: tuple[tuple[int, ...], ...] = ((), (), (0,), sources)
    columns = []
    for k, backbone in enumerate(backbones):
        net.add_column(backbone, x, sources=reads[k])
        features = [[WIDTHS[j][i] for j in sorted(reads[k])] for i in (1, 2)]
        layers = [reference.dense(_matrix(backbone[i]), _bias(backbone[i])) for i in (0, 2, 4)]
        laterals = (None, lateral(net.column(k), "2", features[0]), lateral(net.column(k), "4", features[1]))
        read = tuple(sorted(reads[k]))
        columns.append(ReferenceColumn(tuple(layers), (torch.relu, torch.relu, _same), laterals, read))
    net.eval()
    for k, expected in enumerate(reference.outputs(columns, x)):
        torch.testing.assert_close(net(x, k), expected, rtol=0, atol=1e-12)


CNN_ADAPTERS = (
    LinearAdapter(zero_init=False),
    LinearAdapter(zero_init=False, kernel="layer"),
    MLPAdapter(),
    MLPAdapter(hidden=2),
    MLPAdapter(hidden=0.5, kernel="layer"),
    MLPAdapter.paper(),
)


@pytest.mark.parametrize("adapter", CNN_ADAPTERS, ids=repr)
@pytest.mark.parametrize("n_columns", [1, 2, 3, 4])
def test_convolutional_networks_equal_the_equation(adapter: Adapter, n_columns: int) -> None:
    """A valid, a strided and a dense layer; the lateral joins before the norm: h = f(B(W h + b + a))."""
    x = torch.randn(5, 2, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    backbones = [_cnn(*channels) for channels in CHANNELS[:n_columns]]
    net = random_network(backbones, adapter, x)
    layered = isinstance(adapter, LinearAdapter | MLPAdapter) and adapter.kernel == "layer"
    columns = []
    for k, backbone in enumerate(backbones):
        maps = [[c[i] for c in CHANNELS[:k]] for i in (1, 2)]
        form = {"expand": _layer_kernel} if layered else {"align": _to_two, "expand": _one_by_one}
        laterals = (
            None,
            lateral(net.column(k), "3", maps[0], **form),
            lateral(net.column(k), "6", [4 * c for c in maps[1]]),
        )
        layers = (
            reference.convolution(_matrix(backbone[0]), _bias(backbone[0]), 2, 0),
            reference.convolution(_matrix(backbone[3]), _bias(backbone[3]), 2, 1),
            reference.dense(_matrix(backbone[6]), _bias(backbone[6])),
        )
        norm = _norm(backbone[1])
        after = (lambda h, norm=norm: torch.relu(norm(h)), lambda h: torch.relu(h).flatten(1), _same)
        columns.append(ReferenceColumn(layers, after, laterals, tuple(range(k))))
    assert_equal_to_reference(net, columns, x)


def _cnn(n_in: int, first: int, second: int) -> nn.Sequential:
    convolutions = [nn.Conv2d(n_in, first, 3, stride=2), nn.BatchNorm2d(first), nn.ReLU()]  # 9 -> 4
    convolutions += [nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()]  # 4 -> 2
    norm = convolutions[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean = torch.linspace(-1, 1, first)
    norm.running_var = torch.linspace(0.5, 2, first)
    return nn.Sequential(*convolutions, nn.Linear(second * 4, 3))


def _norm(module: nn.Module) -> reference.Layer:
    assert isinstance(module, nn.BatchNorm2d)
    assert module.running_mean is not None
    assert module.running_var is not None
    return reference.batch_norm(module.running_mean, module.running_var, module.weight, module.bias)


def _to_two(_: int, h: Tensor) -> Tensor:
    return reference.pooled(h, 2, 2)


def _one_by_one(U: Tensor, z: Tensor) -> Tensor:
    return reference.pointwise(U.flatten(1), z, 1)


def _layer_kernel(U: Tensor, z: Tensor) -> Tensor:
    return reference.windows(U, z, stride=2, padding=1)


TOKEN_ADAPTERS = (LinearAdapter(zero_init=False), MLPAdapter(), MLPAdapter(hidden=0.5), MLPAdapter.paper())


@pytest.mark.parametrize("adapter", TOKEN_ADAPTERS, ids=repr)
@pytest.mark.parametrize("n_columns", [1, 2, 3, 4])
def test_token_networks_equal_the_equation(adapter: Adapter, n_columns: int) -> None:
    """Sources behind a LayerNorm each, projections of the last dimension; a vector after the mean over tokens."""
    x = torch.randn(5, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    backbones = [_tokens(width) for width in (8, 5, 9, 7)[:n_columns]]
    net = random_network(backbones, adapter, x)
    columns = []
    for k, backbone in enumerate(backbones):
        column = net.column(k)
        widths = [(8, 5, 9, 7)[j] for j in range(k)]
        layers = [reference.dense(_matrix(backbone[i]), _bias(backbone[i])) for i in (0, 2, 5)]
        laterals = (
            None,
            lateral(column, "2", widths, axis=2, align=_layer_norms(column, "2")),
            lateral(column, "5", widths),
        )
        after = (torch.tanh, lambda h: torch.tanh(h).mean(1), _same)
        columns.append(ReferenceColumn(tuple(layers), after, laterals, tuple(range(k))))
    assert_equal_to_reference(net, columns, x)


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def _tokens(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), _Mean(), nn.Linear(width, 3)
    )


class _Merge(nn.Module):
    """Patches of 2 x 2 pixels, whose features stand last, become one pixel, as in Swin."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(4 * n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduce(_patches(x))  # type: ignore[no-any-return]


def _patches(x: Tensor) -> Tensor:
    return torch.cat([x[:, r::2, c::2] for r in (0, 1) for c in (0, 1)], -1)


@pytest.mark.parametrize("adapter", TOKEN_ADAPTERS, ids=repr)
@pytest.mark.parametrize("n_columns", [1, 2, 3, 4])
def test_networks_that_merge_patches_equal_the_equation(adapter: Adapter, n_columns: int) -> None:
    """Images with features last: sources behind a LayerNorm each, averaged where the site leaves out positions."""
    x = torch.randn(5, 4, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    widths = (8, 5, 9, 7)[:n_columns]
    backbones = [_merging(width) for width in widths]
    net = random_network(backbones, adapter, x)
    columns = []
    for k, backbone in enumerate(backbones):
        column, merge = net.column(k), backbone[2].reduce
        assert isinstance(merge, nn.Linear)
        layers = (
            reference.dense(_matrix(backbone[0]), _bias(backbone[0])),
            _merged(reference.dense(_matrix(merge), _bias(merge))),
            reference.dense(_matrix(backbone[5]), _bias(backbone[5])),
        )
        laterals = (
            None,
            lateral(column, "2", widths[:k], axis=3, align=_normed_and_halved(column, "2")),
            lateral(column, "5", [2 * width for width in widths[:k]]),
        )
        after = (torch.tanh, lambda h: torch.tanh(h).mean((1, 2)), _same)
        columns.append(ReferenceColumn(layers, after, laterals, tuple(range(k))))
    assert_equal_to_reference(net, columns, x)


def _merging(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, width), nn.Tanh(), _Merge(width, 2 * width), nn.Tanh(), _MeanOfPixels(), nn.Linear(2 * width, 3)
    )


class _MeanOfPixels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2))


def _merged(layer: reference.Layer) -> reference.Layer:
    return lambda h: layer(_patches(h))


def _normed_and_halved(column: Column, site: str) -> Callable[[int, Tensor], Tensor]:
    norm = _layer_norms(column, site)
    return lambda source, h: reference.pooled(norm(source, h).movedim(3, 1), 2, 2).movedim(1, 3)


def _layer_norms(column: Column, site: str) -> Callable[[int, Tensor], Tensor]:
    def align(source: int, h: Tensor) -> Tensor:
        norms = column.adapters[site].align.norms  # type: ignore[union-attr]
        return reference.layer_norm(h, norms[source].weight, norms[source].bias)  # type: ignore[index,union-attr]

    return align


def test_an_image_block_that_returns_a_vector_reads_pooled_maps() -> None:
    """Sources of 4 and 2 maps, each averaged over its pixels, then a = U relu(V (alpha_j h_j) + c)."""
    x = torch.randn(5, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    backbones = [_headed(4), _headed(2), _headed(3)]
    net = ProgressiveNetwork(MLPAdapter(zero_init=False, hidden=6))
    for backbone in backbones:
        net.add_column(backbone, x, sites=["2"])
    net.eval()
    seen = net.activations(x, [0, 1])
    found = lateral(net.column(2), "2", [4, 2], align=lambda _, h: reference.pooled(h, 1, 1).flatten(1))
    assert found is not None
    expected = backbones[2](x) + found([seen[0]["2"], seen[1]["2"]])
    torch.testing.assert_close(net(x, 2), expected, rtol=0, atol=1e-12)


def _headed(maps: int) -> nn.Sequential:
    head = nn.Sequential(nn.Flatten(), nn.Linear(maps * 16, 5), nn.ReLU(), nn.Linear(5, 3))
    return nn.Sequential(nn.Conv2d(1, maps, 3), nn.ReLU(), head).double()


def test_the_plain_perceptron_equals_the_equation_bit_by_bit() -> None:
    """The same operations in the same order leave no tolerance to ask for."""
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    first, second = (nn.Sequential(nn.Linear(6, w), nn.ReLU(), nn.Linear(w, 3)) for w in (16, 9))
    net.add_column(first, x)
    net.add_column(second, x)
    a = net.column(1).adapters["2"]
    assert isinstance(a, MLPLateral)
    h = torch.relu(_linear(first[0], x))
    z = torch.relu(_linear(a.V, a.alpha * h))
    own = torch.relu(_linear(second[0], x))
    assert torch.equal(net(x, 1), _linear(second[2], own) + nn.functional.linear(z, _matrix(a.U)))


def _linear(module: nn.Module, h: Tensor) -> Tensor:
    return nn.functional.linear(h, _matrix(module), _bias(module))
