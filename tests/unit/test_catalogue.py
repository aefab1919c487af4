import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from prognet.backbones import mlp
from prognet.catalogue import (
    BACKBONES,
    STRATEGIES,
    STREAMS,
    Entry,
    lookup,
    make_backbone,
    make_strategies,
    parse_call,
    resolve,
)
from prognet.errors import ConfigError, UnknownNameError
from prognet.strategies import Strategy
from tests.helpers.commands import OWN_BACKBONE


@pytest.fixture
def own_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory of one's own; modules and search path are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def add_module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("entries", [STREAMS, STRATEGIES, BACKBONES], ids=["streams", "strategies", "backbones"])
def test_every_entry_is_there_and_says_what_it_is(entries: Mapping[str, Entry]) -> None:
    for name, entry in entries.items():
        assert callable(lookup("entry", name, entries))
        assert entry.summary
        assert "\n" not in entry.summary


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_has_its_name_of_the_catalogue(name: str) -> None:
    strategy = lookup("strategy", name, STRATEGIES)(mlp(hidden=(4,)))
    assert isinstance(strategy, Strategy)
    assert strategy.name == name


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_has_its_name_of_the_catalogue(name: str) -> None:
    backbone = make_backbone(name)
    assert backbone.name == name
    assert isinstance(backbone((1, 32, 32), 3), nn.Module)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_example_in_a_summary_can_be_used(name: str) -> None:
    example = BACKBONES[name].summary.split(": ")[1]
    assert make_backbone(example).name == name


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError) as caught:
        lookup("stream", "split-mnits", STREAMS)
    assert str(caught.value) == "stream: 'split-mnits' is not known; did you mean 'split-mnist'?"


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("math:no_such_name", "AttributeError: module 'math' has no attribute 'no_such_name'"),
        (":f", "ValueError: Empty module name"),
        ("math:", "AttributeError: module 'math' has no attribute ''"),
    ],
)
def test_a_target_that_is_not_there_is_refused(target: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(target)
    assert str(caught.value) == f"{target!r}: required 'module:function' that can be imported, found {found}."


def test_a_backbone_is_made_with_its_arguments() -> None:
    assert make_backbone("mlp(hidden=(8, 7), batch_norm=True)") == mlp(hidden=(8, 7), batch_norm=True)
    assert make_backbone(" mlp( hidden = [8] ) ") == mlp(hidden=(8,))
    assert make_backbone("mlp()") == make_backbone("mlp") == mlp()


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("mlp", ("mlp", {})),
        ("mlp(hidden=(8,8))", ("mlp", {"hidden": (8, 8)})),
        ("f(a=-1.5, b='x', c=None, d={'e': [True]})", ("f", {"a": -1.5, "b": "x", "c": None, "d": {"e": [True]}})),
    ],
)
def test_a_call_is_read(text: str, call: tuple[str, dict[str, Any]]) -> None:
    assert parse_call(text) == call


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mlp(",
        "mlp(8)",
        "mlp((8, 8))",
        "mlp(*[(8,)])",
        "mlp(**{'hidden': (8,)})",
        "mlp(hidden=(8,), hidden=(9,))",
        "mlp(hidden={[]: 1})",
        "mlp(hidden=n)",
        "mlp(hidden=(8,) * 2)",
        "prognet.mlp(hidden=(8,))",
        "mlp(hidden=(8,)) + 1",
        "mlp; mlp",
        "\0",
        "my_module:build(width=2)",
    ],
)
def test_a_text_that_is_no_call_with_plain_values_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_backbone(text)
    assert str(caught.value) == (
        "backbone: required a name, a name with named arguments such as 'mlp(hidden=(256, 256))', or "
        f"'module:function', found {text!r}."
    )


def test_nothing_in_a_text_is_run(own_path: Path) -> None:
    for code in ("__import__('pathlib').Path('ran').touch()", "open('ran', 'w')", "[x for x in open('ran', 'w')]"):
        with pytest.raises(ConfigError, match="backbone: required a name"):
            make_backbone(f"mlp(hidden={code})")
        with pytest.raises(ConfigError, match="backbone: required a name"):
            make_backbone(code)
    assert list(own_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mlp(hiden=(8,))", "unexpected keyword argument 'hiden'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_backbone(text)
    assert str(caught.value).startswith(f"backbone: required the arguments of mlp, found {text!r} (")
    assert reason in str(caught.value)


def test_arguments_of_another_type_are_refused_by_the_backbone() -> None:
    with pytest.raises(ConfigError, match=r"hidden: required a sequence of whole numbers, e\.g\. \(64,\), found 8\."):
        make_backbone("mlp(hidden=8)")


def test_arguments_out_of_range_are_refused_by_the_backbone() -> None:
    with pytest.raises(ConfigError, match="hidden: required a whole number, at least 1, found 0"):
        make_backbone("mlp(hidden=(8, 0))")


def test_an_unknown_backbone_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="backbone: 'resnet' is not known; did you mean 'resnet18'?"):
        make_backbone("resnet(channels=8)")


def test_a_module_is_found_in_the_working_directory(own_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_module(own_path, "my_backbone_module", OWN_BACKBONE, monkeypatch)
    build = make_backbone("my_backbone_module:build")
    assert build((6,), 3)[3].weight.shape == (3, 5)


def test_a_module_that_cannot_be_imported_says_why(own_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_module(own_path, "my_broken_module", "def build(:", monkeypatch)
    with pytest.raises(ConfigError, match="'my_broken_module:build': required .* found SyntaxError: invalid syntax"):
        make_backbone("my_broken_module:build")
    add_module(own_path, "my_failing_module", "1 / 0", monkeypatch)
    with pytest.raises(ConfigError, match="found ZeroDivisionError: division by zero"):
        make_backbone("my_failing_module:build")


def test_a_name_of_prognets_own_does_not_look_into_the_working_directory(own_path: Path) -> None:
    before = list(sys.path)
    make_strategies(["progressive"], "mlp")
    assert sys.path == before


def test_strategies_share_the_backbone_and_keep_their_order() -> None:
    strategies, unavailable = make_strategies(["independent-wide", "finetune"], "mlp(hidden=(5,))")
    assert [strategy.name for strategy in strategies] == ["independent-wide", "finetune"]
    assert strategies[0].backbone is strategies[1].backbone
    assert unavailable == {}


def test_a_control_that_the_backbone_does_not_allow_is_left_out_with_the_reason(
    own_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_module(own_path, "my_narrow_module", OWN_BACKBONE, monkeypatch)
    strategies, unavailable = make_strategies(["independent-wide", "finetune"], "my_narrow_module:build")
    assert [strategy.name for strategy in strategies] == ["finetune"]
    assert list(unavailable) == ["independent-wide"]
    assert unavailable["independent-wide"].startswith("backbone: required an argument width=1.0")
    with pytest.raises(
        ConfigError, match="strategies: required one that backbone 'my_narrow_module:build' allows"
    ) as caught:
        make_strategies(["independent-wide"], "my_narrow_module:build")
    assert "required an argument width=1.0" in str(caught.value)


def test_an_unknown_strategy_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="strategy: 'fine-tune' is not known; did you mean 'finetune'?"):
        make_strategies(["fine-tune"], "mlp")
