"""Everything that has a name on the command line: the name, where it is made, and one line about it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prognet.errors import ConfigError, ControlUnavailableError, unknown_name
from prognet.options import StreamOptions

if TYPE_CHECKING:
    from prognet.strategies import Strategy
    from prognet.streams.stream import Stream


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that can be asked for by name."""

    target: str
    """`"module:function"`."""
    summary: str


STREAMS: Mapping[str, Entry] = MappingProxyType(
    {
        "split-digits": Entry("prognet.streams:split_digits", "scikit-learn's digits by class; embedded"),
        "permuted-digits": Entry("prognet.streams:permuted_digits", "the same with permuted pixels; embedded"),
        "rotated-digits": Entry("prognet.streams:rotated_digits", "the same, rotated; embedded"),
        "split-mnist": Entry("prognet.streams:split_mnist", "MNIST by class"),
        "permuted-mnist": Entry("prognet.streams:permuted_mnist", "MNIST with permuted pixels"),
        "rotated-mnist": Entry("prognet.streams:rotated_mnist", "MNIST, rotated"),
        "split-fashion-mnist": Entry("prognet.streams:split_fashion_mnist", "Fashion-MNIST by class"),
        "split-cifar10": Entry("prognet.streams:split_cifar10", "CIFAR-10 by class"),
        "split-cifar100": Entry("prognet.streams:split_cifar100", "CIFAR-100 by class"),
        "low-data-mnist": Entry("prognet.streams:low_data_mnist", "MNIST, then views of it with a few samples a class"),
        "low-data-digits": Entry("prognet.streams:low_data_digits", "the same with scikit-learn's digits; embedded"),
        "multi-mnist": Entry("prognet.streams:multi_mnist", "MultiMNIST: two digits in one image, a task for each"),
        "multi-digits": Entry("prognet.streams:multi_digits", "the same with scikit-learn's digits; embedded"),
        "spoken-digits": Entry("prognet.streams:spoken_digits", "digits in five languages, by the program espeak-ng"),
        "detection-digits": Entry("prognet.streams:detection_digits", "digits on canvases, to classify and to find"),
        "from-npz": Entry("prognet.streams:from_npz", "arrays of one's own, in one .npz file"),
        "from-folder": Entry("prognet.streams:from_folder", "images of one's own, in class folders per task"),
    }
)

BACKBONES: Mapping[str, Entry] = MappingProxyType(
    {
        "mlp": Entry("prognet.backbones:mlp", "multilayer perceptron: mlp(hidden=(100, 100))"),
        "cnn": Entry("prognet.backbones:cnn", "plain convolutional network: cnn(channels=(32, 64, 128))"),
        "resnet18": Entry("prognet.backbones:resnet18", "ResNet-18 for small images: resnet18(channels=64)"),
        "detection_resnet18": Entry(
            "prognet.backbones:detection_resnet18", "for streams with detections: detection_resnet18(channels=16)"
        ),
        "torchvision": Entry("prognet.backbones:torchvision", "by name there: torchvision(model='resnet18')"),
        "timm": Entry("prognet.backbones:timm", "by name there, extra timm: timm(model='resnet18')"),
        "vit_tiny": Entry("prognet.backbones:vit_tiny", "vision transformer of size Ti: vit_tiny(depth=12)"),
        "with_weights": Entry(
            "prognet.backbones:with_weights", "begun from a file: with_weights(backbone='mlp', weights='a.safetensors')"
        ),
    }
)

_MULTITASK = {
    "stems": "a stem per task, shared behind it: inputs of any shape",
    "soft": "networks per task, drawn to their mean",
    "cross-stitch": "columns per task, mixed at every site",
    "attention": "shared trunk, soft masks of every task",
    "adversarial": "shared and private columns, an adversary",
    "added": "shared trunk, the task is added to features",
    "concatenated": "shared trunk, the task is concatenated",
    "film": "shared trunk, the task scales and shifts",
    "uncertainty": "losses by learned uncertainty",
    "dwa": "losses by how slowly they fall",
    "random": "losses by random weights: a litmus test",
    "famo": "losses are to fall at the same rate",
    "gradnorm": "gradients of matched lengths",
    "pcgrad": "gradients projected off each other",
    "mgda": "shortest vector in the hull of gradients",
    "imtlg": "equal projections on all gradients",
    "aligned": "gradients with aligned components",
    "upgrad": "gradients without conflict",
    "proportional": "every sample as often, not every task",
}
"""What the variants of multi-task learning share, how their losses are weighted, how often tasks are sampled."""

STRATEGIES: Mapping[str, Entry] = MappingProxyType(
    {
        "progressive": Entry("prognet.strategies:Progressive", "a new column per task, MLP laterals (eq. 2)"),
        "progressive-linear": Entry("prognet.strategies.named:progressive_linear", "the same, linear laterals (eq. 1)"),
        "progressive-paper": Entry("prognet.strategies.named:progressive_paper", "the paper's initialisation"),
        "progressive-scratch": Entry("prognet.strategies.named:progressive_scratch", "columns begin from scratch"),
        "progressive-shuffled": Entry(
            "prognet.strategies.named:progressive_shuffled", "control: laterals read another sample"
        ),
        "copytune": Entry("prognet.strategies:CopyTune", "fine-tuned copy of the best earlier network, no laterals"),
        "progressive-last": Entry("prognet.strategies.named:progressive_last", "reads the latest column only"),
        "progressive-top1": Entry("prognet.strategies.named:progressive_top1", "reads the column that k-NN speaks for"),
        "progressive-leep": Entry("prognet.strategies.named:progressive_leep", "the same, LEEP instead of k-NN"),
        "progressive-nce": Entry("prognet.strategies.named:progressive_nce", "the same, NCE"),
        "progressive-logme": Entry("prognet.strategies.named:progressive_logme", "the same, LogME"),
        "progressive-hscore": Entry("prognet.strategies.named:progressive_hscore", "the same, H-score"),
        "progressive-cka": Entry("prognet.strategies.named:progressive_cka", "the same, CKA with the labels"),
        "progressive-pruned": Entry("prognet.strategies.named:progressive_pruned", "laterals pruned after training"),
        "progressive-random": Entry("prognet.strategies:ProgressiveRandom", "control: earlier columns are random"),
        "finetune": Entry("prognet.strategies:FineTune", "shared trunk, a head per task, one task after the other"),
        "finetune-head": Entry("prognet.strategies:HeadOnly", "control: trunk frozen after the first task"),
        "finetune-layerwise": Entry(
            "prognet.strategies.finetune_named:finetune_layerwise", "rates that fall from the head down"
        ),
        "finetune-gradual": Entry("prognet.strategies.finetune_named:finetune_gradual", "unfrozen from the top"),
        "finetune-l2sp": Entry("prognet.strategies.finetune_named:finetune_l2sp", "held near its start"),
        "finetune-reinit": Entry("prognet.strategies.finetune_named:finetune_reinit", "the top stage begins anew"),
        "finetune-smooth": Entry(
            "prognet.strategies.finetune_named:finetune_smooth", "targets moved towards its own prediction, dropout"
        ),
        "finetune-lora": Entry(
            "prognet.strategies.finetune_named:finetune_lora", "low-rank adapters per task on a frozen trunk"
        ),
        "aligned": Entry("prognet.strategies:FeatureAlignment", "drawn towards the features of the first network"),
        "aligned-joint": Entry(
            "prognet.strategies.finetune_named:aligned_joint", "the same, with a source that learns in the same step"
        ),
        "multitask": Entry("prognet.strategies:MultiTask", "shared trunk, all tasks together"),
        "multitask-cumulative": Entry("prognet.strategies.named:multitask_cumulative", "all tasks so far, anew"),
        **{
            f"multitask-{name}": Entry(f"prognet.strategies.multitask.named:{name.replace('-', '_')}", summary)
            for name, summary in _MULTITASK.items()
        },
        "independent": Entry("prognet.strategies:Independent", "a network per task, from scratch"),
        "independent-wide": Entry(
            "prognet.strategies:IndependentWide", "control: widened to the parameters of the progressive column"
        ),
        "ewc": Entry("prognet.strategies.wrapped:ewc", "Avalanche's elastic weight consolidation"),
        "lwf": Entry("prognet.strategies.wrapped:lwf", "Avalanche's learning without forgetting"),
        "si": Entry("prognet.strategies.wrapped:si", "Avalanche's synaptic intelligence"),
        "mas": Entry("prognet.strategies.wrapped:mas", "Avalanche's memory aware synapses"),
        "replay": Entry("prognet.strategies.wrapped:replay", "Avalanche's replay of 200 kept samples"),
        "agem": Entry("prognet.strategies.wrapped:agem", "Avalanche's averaged gradient episodic memory"),
    }
)


def lookup(kind: str, name: str, entries: Mapping[str, Entry]) -> Any:
    """The object behind a name.

    Raises:
        UnknownNameError: when there is none, with a suggestion.
    """
    if name not in entries:
        raise unknown_name(kind, name, entries)
    return resolve(entries[name].target)


def resolve(target: str) -> Any:
    """The object that `"module:name"` names.

    Raises:
        ConfigError: when the module cannot be imported, or has no such name.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # whatever a module of somebody's own may raise
        raise ConfigError(
            f"{target!r}: required 'module:function' that can be imported, found {type(error).__name__}: {error}."
        ) from error


def make_backbone(text: str) -> Any:
    """The backbone of a text: a name, perhaps with arguments as `mlp(hidden=(256, 256))`, or `module:function`.

    A module of one's own is looked for in the working directory first, as Python does for a script; for nothing else,
    so that no file beside the user stands in for a library.

    Raises:
        UnknownNameError: when the name is not known, with a suggestion.
        ConfigError: when the text cannot be read, or the arguments do not fit.
    """
    if ":" in text and "(" not in text:
        sys.path.insert(0, "")
        return resolve(text)
    name, arguments = parse_call(text)
    function = lookup("backbone", name, BACKBONES)
    try:
        return function(**arguments)
    except TypeError as error:
        raise ConfigError(f"backbone: required the arguments of {name}, found {text!r} ({error}).") from error


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """`"mlp(hidden=(256, 256))"` -> `("mlp", {"hidden": (256, 256)})`; only plain values are read, nothing is run.

    Raises:
        ConfigError: when the text is no name, or no name with named arguments.
    """
    import ast

    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            names = [item.arg or "" for item in node.keywords]  # a keyword without a name is **mapping
            if all(names) and len(set(names)) == len(names):
                values = [ast.literal_eval(item.value) for item in node.keywords]
                return node.func.id, dict(zip(names, values, strict=True))
    except (SyntaxError, ValueError, TypeError):  # of the text, of a value that is not plain, of a key without a hash
        pass
    raise ConfigError(
        "backbone: required a name, a name with named arguments such as 'mlp(hidden=(256, 256))', or "
        f"'module:function', found {text!r}."
    )


def make_strategies(names: Sequence[str], backbone: str) -> tuple[list["Strategy"], dict[str, str]]:
    """The strategies of these names with the backbone of a text, and why the others are unavailable, by name.

    Raises:
        UnknownNameError: when a name is not known, with a suggestion.
        ConfigError: when the backbone cannot be made, or allows none of the strategies.
    """
    make = make_backbone(backbone)
    strategies: list[Strategy] = []
    unavailable: dict[str, str] = {}
    for name in names:
        try:
            strategies.append(lookup("strategy", name, STRATEGIES)(make))
        except ControlUnavailableError as error:
            unavailable[name] = str(error)
    if not strategies:
        raise ConfigError(f"strategies: required one that backbone {backbone!r} allows, found {unavailable}.")
    return strategies, unavailable


def stream_maker(name: str, options: StreamOptions) -> Callable[[int], "Stream"]:
    """The function from an order to the stream of this name with these options in that order.

    Where a stream is drawn, the function is a `PerSeed`, which hands the seed of a run on as its draw.

    Raises:
        UnknownNameError: when the name is not known, with a suggestion.
    """
    builder = lookup("stream", name, STREAMS)
    arguments = {item.name: getattr(options, item.name) for item in fields(options)}

    def make(order: int) -> "Stream":
        stream: Stream = builder(**arguments, seed=order)
        return stream

    def draw(order: int, seed: int) -> "Stream":
        stream: Stream = builder(**arguments, seed=order, draw=seed)
        return stream

    if "draw" not in signature(builder).parameters:
        return make
    from prognet.streams import PerSeed

    return PerSeed(draw)


def stream_again(config: Mapping[str, Any], root: Path | None) -> "Stream":
    """The stream of a run again, from the run's configuration.

    Args:
        config: what `config` of the run's result holds.
        root: where the data lie: the folder of a data set or of tasks, or an .npz file; None for streams without.

    Raises:
        UnknownNameError: when the stream is none of the catalogue.
        ConfigError: when it needs `root` and there is none, or its arguments do not fit.
        MissingDataError: when the data are not there.
    """
    name = config["stream"]["name"]
    builder = lookup("stream", name, STREAMS)
    known = signature(builder).parameters
    arguments = {key: _hashable(value) for key, value in config["stream"]["arguments"].items()}
    arguments |= {key: root for key in ("root", "path") if key in known and root is not None}
    arguments |= {"draw": config["draw"]} if "draw" in known else {}
    missing = [key for key, item in known.items() if item.default is item.empty and arguments.get(key) is None]
    if missing:
        raise ConfigError(f"root: required the place of the data of {name!r}, found none; name it.")
    try:
        stream: Stream = builder(**arguments, seed=config["order"])
    except TypeError as error:
        raise ConfigError(f"stream: required the arguments of {name!r}, found {arguments} ({error}).") from error
    return stream


def _hashable(value: Any) -> Any:
    """Tuples for the lists of JSON, as the builders take them."""
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
