"""Jobs in lockstep: one moves at a time, each with random numbers of its own, and errors go where they belong."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

from prognet.errors import ConfigError, UnwritableError
from prognet.evaluation.lockstep import Job, in_lockstep

Asking = Job[str, Any]


def echo(jobs: Sequence[Asking]) -> Mapping[Asking, object]:
    return {job: f"{job.question}!" for job in jobs}


def test_jobs_take_turns_and_are_answered_when_all_have_asked() -> None:
    events: list[str] = []

    def work(name: str) -> Callable[[Asking], str]:
        def asking(job: Asking) -> str:
            for turn in range(2):
                events.append(f"{name} asks {turn}")
                events.append(f"{name} hears {job.ask(f'{name}{turn}')}")
            return name.upper()

        return asking

    assert in_lockstep([work("a"), work("b")], echo) == ["A", "B"]
    assert events == [
        *("a asks 0", "b asks 0"),
        *("a hears a0!", "a asks 1", "b hears b0!", "b asks 1"),
        *("a hears a1!", "b hears b1!"),
    ]


def test_a_job_without_an_answer_goes_on_waiting() -> None:
    rounds: list[list[str | None]] = []

    def answer(jobs: Sequence[Asking]) -> Mapping[Asking, object]:
        rounds.append([job.question for job in jobs])
        ready = [job for job in jobs if job.question == "work"]
        return dict.fromkeys(ready or jobs)

    def once(job: Asking) -> None:
        job.ask("meet")

    def twice(job: Asking) -> None:
        job.ask("work")
        job.ask("work")
        job.ask("meet")

    in_lockstep([once, twice], answer)
    assert rounds == [["meet", "work"], ["meet", "work"], ["meet", "meet"]]


def test_a_job_that_is_over_keeps_nobody_waiting() -> None:
    assert in_lockstep([lambda job: 1, lambda job: job.ask("x"), lambda job: job.ask("y")], echo) == [1, "x!", "y!"]
    assert in_lockstep([], echo) == []


def test_each_job_draws_as_if_it_were_alone() -> None:
    def drawing(job: Asking) -> list[float]:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            first = torch.rand(()).item()
            job.ask("between")
            return [first, torch.rand(()).item()]

    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = in_lockstep([drawing, drawing, drawing], echo)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        alone = [torch.rand(()).item(), torch.rand(()).item()]
    assert found == [alone, alone, alone]


def test_work_within_a_job_draws_from_its_random_numbers() -> None:
    drawn: list[float] = []

    def answer(jobs: Sequence[Asking]) -> Mapping[Asking, object]:
        for job in jobs:
            job.within(lambda: drawn.append(torch.rand(()).item()))
        return dict.fromkeys(jobs)

    def seeded(job: Asking) -> float:
        torch.manual_seed(3)
        job.ask("draw")
        return torch.rand(()).item()

    last = in_lockstep([seeded, seeded], answer)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first, second = torch.rand(()).item(), torch.rand(()).item()
    assert drawn == [first, first]
    assert last == [second, second]


def test_an_error_of_prognet_ends_its_job_only() -> None:
    def failing(job: Asking) -> None:
        job.ask("x")
        raise ConfigError("name: required another.")

    failed, other = in_lockstep([failing, lambda job: job.ask("y") and job.ask("z")], echo)
    assert isinstance(failed, ConfigError)
    assert other == "z!"


def test_an_answer_that_is_an_error_is_raised_where_the_question_was_asked() -> None:
    def caught(job: Asking) -> str:
        try:
            job.ask("x")
        except KeyError:
            return "caught"
        return "nothing"

    assert in_lockstep([caught], lambda jobs: {job: KeyError("k") for job in jobs}) == ["caught"]


@pytest.mark.parametrize("error", [RuntimeError("no"), UnwritableError("full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("where", ["in a job", "outside"])
def test_any_other_error_ends_everything_and_every_job_is_unwound(error: BaseException, where: str) -> None:
    unwound: list[str] = []

    def waiting(job: Asking) -> None:
        try:
            job.ask("first")
            job.ask("second")
        finally:
            unwound.append("unwound")

    def failing(job: Asking) -> None:
        job.ask("first")
        if where == "in a job":
            raise error
        job.ask("second")

    def answer(jobs: Sequence[Asking]) -> Mapping[Asking, object]:
        if where == "outside" and jobs[0].question == "second":
            raise error
        return dict.fromkeys(jobs)

    with pytest.raises(type(error)) as raised:
        in_lockstep([waiting, failing, waiting], answer)
    assert raised.value is error
    assert unwound == ["unwound", "unwound"]
