import pytest
import torch

from prognet.errors import ConfigError
from prognet.streams.parts import Settings, check_n_tasks, generator, make_task, ordered, stratified
from prognet.streams.task import Normalisation, Samples

Y = torch.tensor([0] * 40 + [1] * 20 + [2] * 2 + [3])


def test_the_two_parts_are_disjoint_and_complete() -> None:
    rest, part = stratified(Y, 0.1, generator(0, "x"))
    assert sorted([*rest.tolist(), *part.tolist()]) == list(range(len(Y)))
    assert rest.tolist() == sorted(rest.tolist())
    assert part.tolist() == sorted(part.tolist())


def test_every_class_gives_its_share() -> None:
    rest, part = stratified(Y, 0.1, generator(0, "x"))
    # 10 % of 40 and of 20; one of two, so that both parts have the class; a single sample stays in the rest
    assert torch.bincount(Y[part], minlength=4).tolist() == [4, 2, 1, 0]
    assert torch.bincount(Y[rest], minlength=4).tolist() == [36, 18, 1, 1]


def test_a_large_fraction_leaves_every_class_one_sample() -> None:
    rest, _ = stratified(Y, 0.999, generator(0, "x"))
    assert torch.bincount(Y[rest]).tolist() == [1, 1, 1, 1]


def test_nothing_is_held_out_at_0() -> None:
    rest, part = stratified(Y, 0.0, generator(0, "x"))
    assert (rest.tolist(), part.tolist()) == (list(range(len(Y))), [])


def test_the_parts_depend_on_the_seed_alone() -> None:
    first, again, other = (stratified(Y, 0.5, generator(seed, "x"))[1].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_validation_split_depends_on_seed_and_task() -> None:
    samples = Samples(torch.arange(40.0).view(-1, 1), torch.arange(40) % 2)
    held_out = {
        (seed, label): make_task(label, "t", ("a", "b"), samples, samples, Settings(seed=seed), Normalisation()).val.x
        for seed in (0, 1)
        for label in (0, 1)
    }
    as_sets = {frozenset(x.flatten().tolist()) for x in held_out.values()}
    assert len(as_sets) == 4


def test_a_validation_split_that_is_given_is_kept() -> None:
    samples, val = (Samples(torch.zeros(n, 1), torch.arange(n) % 2) for n in (10, 4))
    task = make_task(0, "t", ("a", "b"), samples, samples, Settings(), Normalisation(), val)
    assert (len(task.train), task.val) == (10, val)


def test_orders() -> None:
    assert ordered(10, "natural", "class_order", 0, "p") == list(range(10))
    seeded = ordered(10, "seeded", "class_order", 0, "p")
    assert sorted(seeded) == list(range(10))
    assert seeded != list(range(10))  # seed 0 is a seed like any other
    assert seeded != ordered(10, "seeded", "class_order", 1, "p")
    with pytest.raises(ConfigError, match="class_order: required 'seeded' or 'natural', found 'random'; choose"):
        ordered(10, "random", "class_order", 0, "p")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": 1.5}, "seed: required a whole number, found 1.5; give for instance 0"),
        ({"seed": True}, "seed: required a whole number, found True"),
        ({"validation": 1.0}, r"validation: required a fraction in \[0, 1\), found 1.0; give for instance 0.1"),
        ({"validation": -0.1}, r"validation: required a fraction in \[0, 1\), found -0.1"),
        ({"validation": float("nan")}, r"validation: required a fraction in \[0, 1\), found nan"),
        ({"heads": "one"}, r"heads: required one of \('per-task', 'shared'\), found 'one'"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_tasks", [0, 6, 2.0, True])
def test_numbers_of_tasks_out_of_range_are_refused(n_tasks: int) -> None:
    message = f"n_tasks: required 1 to 5, so that each task has two classes, found {n_tasks}; choose another"
    with pytest.raises(ConfigError, match=message):
        check_n_tasks(n_tasks, most=5)
    if n_tasks != 6:
        with pytest.raises(ConfigError, match=f"n_tasks: required a whole number, at least 1, found {n_tasks}"):
            check_n_tasks(n_tasks)
