"""A progressive network as a module of Avalanche."""

import copy
import pickle
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prognet
from prognet.avalanche import ProgressiveModule, TaskPlace
from prognet.engine import LinearAdapter
from prognet.errors import ConfigError, StreamError, UnlearnedTaskError
from prognet.strategies.routing import MASK
from tests.helpers.avalanche import experience, of_datasets
from tests.helpers.runs import NORMED, PLAIN, assert_same_tensors, from_scratch, tensors, with_session
from tests.helpers.streams import make_stream

SHAPE = (1, 4, 4)


def taught(
    classes: Sequence[Sequence[int]] = ((0, 1), (0, 1, 2)), backbone: Any = PLAIN, **more: Any
) -> ProgressiveModule:
    """A module that has a column for each task, each of them trained for one step."""
    module = ProgressiveModule(backbone, **{"seed": 0, **more})
    for label, own in enumerate(classes):
        module.train()
        module.adaptation(experience(label, own))
        step(module, label)
    module.eval()
    return module


def step(module: ProgressiveModule, label: int) -> None:
    """One step that changes every parameter which has a gradient."""
    optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
    optimiser.zero_grad()
    module(inputs(8), label).logsumexp(dim=1).sum().backward()
    optimiser.step()


def inputs(n: int = 6) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_a_column_is_added_for_every_new_label_in_training() -> None:
    module = taught()
    assert len(module.network) == 2
    assert module.tasks == {0: TaskPlace(0, (0, 1)), 1: TaskPlace(1, (0, 1, 2))}
    assert [module.network.column(k).frozen for k in range(2)] == [True, False]
    assert module(inputs(), 1).shape == (6, 3)


@pytest.mark.parametrize("labels", [[0], [1], [2], [9], [0, 2, 9]])
def test_evaluation_adds_and_freezes_nothing(labels: list[int]) -> None:
    module = taught()
    before, digests = tensors(module), module.network.digests()
    learning = [name for name, p in module.named_parameters() if p.requires_grad]
    module.adaptation(experience(labels, [0, 3]))
    module(inputs(6), torch.tensor(labels).repeat(6)[:6])
    assert len(module.network) == 2
    assert_same_tensors(tensors(module), before)
    assert module.network.digests() == digests
    assert [name for name, p in module.named_parameters() if p.requires_grad] == learning


def test_evaluation_before_any_training_leaves_the_first_column_to_training() -> None:
    module = ProgressiveModule(PLAIN, seed=0).eval()
    for label in range(3):
        module.adaptation(experience(label, [0, 1]))
        assert module(inputs(), label).argmax(dim=1).tolist() == [2] * 6
    assert len(module.network) == 0
    module.train().adaptation(experience(0, [0, 1]))
    assert all(p.requires_grad for p in module.network.parameters())


def test_a_task_without_a_column_gets_no_answer() -> None:
    module = taught()
    module.adaptation(experience(5, [0, 1, 2, 3]))
    logits = module(inputs(), 5)
    assert logits.shape == (6, 5)
    assert logits[:, :4].eq(0).all()
    assert logits.argmax(dim=1).tolist() == [4] * 6  # no class of the task
    assert nn.functional.cross_entropy(logits, torch.zeros(6, dtype=torch.int64)).isnan()


def test_a_label_that_nobody_has_announced_is_refused() -> None:
    message = r"task_labels: required one of the tasks \[0, 1\] of the experiences so far, found 4; train on it first."
    with pytest.raises(UnlearnedTaskError, match=message):
        taught()(inputs(), 4)


def test_training_a_later_task_leaves_earlier_logits_as_they_are() -> None:
    module = taught(((0, 1), (0, 1, 2)), NORMED)
    before = module(inputs(), 0), module(inputs(), 1)
    module.train().adaptation(experience(2, (0, 1)))
    for _ in range(3):
        step(module, 2)
    module.eval()
    assert torch.equal(module(inputs(), 0), before[0])
    assert torch.equal(module(inputs(), 1), before[1])


def test_a_batch_of_several_tasks_is_routed_row_by_row() -> None:
    module = taught()
    labels = torch.tensor([1, 0, 0, 1, 0, 1])
    logits = module(inputs(), labels)
    assert logits.shape == (6, 3)
    for row, label in enumerate(labels.tolist()):
        own = module(inputs()[row : row + 1], label)
        torch.testing.assert_close(logits[row : row + 1, : own.shape[1]], own)
    assert logits[labels == 0, 2].tolist() == [MASK] * 3


def test_without_labels_every_learned_task_answers() -> None:
    module = taught()
    outputs = module(inputs(), None)
    assert sorted(outputs) == [0, 1]
    assert all(torch.equal(outputs[label], module(inputs(), label)) for label in (0, 1))


def test_outputs_are_spread_over_the_class_numbers_of_the_benchmark() -> None:
    module = taught(((3, 5), (1, 2)))
    logits = module(inputs(), 0)
    assert logits.shape == (6, 6)
    own = module.network(inputs(), column=0)
    assert torch.equal(logits[:, [3, 5]], own)
    assert logits[:, [0, 1, 2, 4]].eq(MASK).all()
    target = torch.tensor([3, 5, 3, 5, 5, 3])
    expected = nn.functional.cross_entropy(own, torch.tensor([0, 1, 0, 1, 1, 0]))
    torch.testing.assert_close(nn.functional.cross_entropy(logits, target), expected)


def test_classes_of_a_test_set_that_training_did_not_have_are_masked() -> None:
    module = taught(((0, 1),))
    module.adaptation(experience(0, [0, 1, 4]))
    assert module(inputs(), 0).shape == (6, 5)
    assert module(inputs(), 0)[:, 2:].eq(MASK).all()


def test_laterals_reach_every_layer_but_the_first() -> None:
    module = taught()
    (first, *_), newest = [*PLAIN(SHAPE, 3)], module.network.column(1)
    assert isinstance(first, nn.Flatten)  # and layer 1 reads the raw input
    assert [site.name for site in newest.sites] == ["3", "5"]  # hidden layer and head
    assert newest.sources == (0,)


def test_initialisation_with_a_seed_is_that_of_a_run() -> None:
    stream = make_stream((2, 5))
    module = ProgressiveModule(PLAIN, seed=3, adapter=LinearAdapter(zero_init=False))
    strategy = from_scratch(PLAIN, adapter=LinearAdapter(zero_init=False))
    with_session(strategy, prognet.Training(epochs=0), seed=3)
    for task in stream:
        strategy.learn([task])
    for label, n_classes in enumerate((2, 5)):
        torch.manual_seed(label)  # which decides nothing
        module._newest_has_trained = True
        module.adaptation(experience(label, range(n_classes)))
    assert_same_tensors(tensors(module.network), tensors(strategy.columns.network))


def test_without_a_seed_initialisation_is_torchs() -> None:
    def first() -> dict[str, Tensor]:
        torch.manual_seed(11)
        module = ProgressiveModule(PLAIN)
        module.adaptation(experience(0, (0, 1)))
        return tensors(module.network)

    assert_same_tensors(first(), first())


def test_sites_and_adapter_are_those_of_the_network() -> None:
    module = taught(sites=["5"], adapter=LinearAdapter())
    assert [site.name for site in module.network.column(1).sites] == ["5"]
    assert module.network.column(1).adapter == LinearAdapter()


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["copy", "pickle"]
)
def test_a_copy_goes_on_alike(again: Any) -> None:
    module = taught(backbone=NORMED)
    other = again(module)
    assert torch.equal(other(inputs(), 0), module(inputs(), 0))
    for one in (module, other):
        one.train().adaptation(experience(2, (0, 1)))
        torch.manual_seed(0)
        step(one, 2)
    assert_same_tensors(tensors(other), tensors(module))
    assert other.tasks == module.tasks


def test_adapting_to_several_tasks_before_training_is_refused() -> None:
    module = ProgressiveModule(PLAIN)
    module.adaptation(experience(0, (0, 1)))
    with pytest.raises(
        ConfigError, match=r"task label 1: required that the column of the task before is trained first"
    ):
        module.adaptation(experience(1, (0, 1)))
    assert len(module.network) == 1
    step(module, 0)
    module.adaptation(experience(1, (0, 1)))
    assert len(module.network) == 2


def test_looking_at_a_column_is_not_training_it() -> None:
    module = ProgressiveModule(PLAIN)
    module.adaptation(experience(0, (0, 1)))
    module.eval()(inputs(), 0)
    with torch.no_grad():
        module.train()(inputs(), 0)
    with pytest.raises(ConfigError, match="found it untrained"):
        module.adaptation(experience(1, (0, 1)))


def test_new_classes_under_an_old_label_are_refused() -> None:
    module = taught(((0, 1),)).train()
    message = (
        r"experience 7: required a task label of its own for classes \[2, 3\], found label 0 again, which stands for "
        r"classes \[0, 1\]: without task labels every experience would go into one and the same column."
    )
    with pytest.raises(StreamError, match=message):
        module.adaptation(experience(0, (2, 3)))


def test_a_frozen_task_is_not_learned_again() -> None:
    module = taught().train()
    with pytest.raises(ConfigError, match="task label 0: required a task that is new, or the newest, found one whose"):
        module.adaptation(experience(0, (0, 1)))


def test_going_on_with_the_newest_task_is_said_aloud() -> None:
    module = taught().train()
    with pytest.warns(UserWarning, match="experience 7 goes on training column 1, since it has task label 1 again"):
        module.adaptation(experience(1, (0, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.adaptation(experience(1, (0, 2), is_first_subexp=False))  # of an online stream
    assert len(module.network) == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"experience 7: required one task label in a training experience, found \[0, 1\]; make a benchmark"),
        ([], "experience 7: required task labels, found none; make the benchmark with task labels"),
    ],
)
def test_labels_that_do_not_say_one_task_are_refused(labels: list[int], message: str) -> None:
    fresh = ProgressiveModule(PLAIN)
    odd = experience(0, (0, 1))
    odd.task_labels = labels
    with pytest.raises(StreamError, match=message):
        fresh.adaptation(odd)


def test_experiences_that_do_not_say_their_classes_are_refused() -> None:
    """As those of `benchmark_from_datasets`, until the benchmark is wrapped."""
    module = ProgressiveModule(PLAIN, seed=0)
    with pytest.raises(StreamError, match="experience 0: required task labels, found none; .*with_task_labels"):
        module.adaptation(of_datasets().train_stream[0])
    with pytest.raises(
        StreamError, match=r"experience 0: required classes_in_this_experience, .*with_classes_timeline"
    ):
        module.adaptation(of_datasets("with_task_labels").train_stream[0])
    assert len(module.network) == 0


def test_classes_may_come_as_a_set() -> None:
    benchmark = of_datasets("with_task_labels", "with_classes_timeline")
    assert isinstance(benchmark.train_stream[0].classes_in_this_experience, set)
    module = ProgressiveModule(PLAIN, seed=0)
    for label, seen in enumerate(benchmark.train_stream):
        module.train().adaptation(seen)
        step(module, label)
    module.eval().adaptation(benchmark.test_stream[0])
    assert module.tasks == {0: TaskPlace(0, (2, 3)), 1: TaskPlace(1, (0, 1))}
    assert module(inputs(), 0).shape == (6, 4)


def test_samples_that_are_no_tensors_are_refused() -> None:
    odd = experience(0, (0, 1))
    odd.dataset.eval = lambda: [("text", 0, 0)]
    with pytest.raises(StreamError, match=r"experience 7: required samples \(x, y, ...\) with a tensor x, found a str"):
        ProgressiveModule(PLAIN).adaptation(odd)


def test_a_network_is_no_backbone() -> None:
    with pytest.raises(ConfigError, match="backbone: required a function .* found a Linear; wrap it in a function"):
        ProgressiveModule(nn.Linear(2, 2))


def test_an_empty_module_has_a_parameter_for_the_optimiser() -> None:
    (parameter,) = ProgressiveModule(PLAIN).parameters()
    assert (parameter.numel(), parameter.requires_grad) == (0, False)
