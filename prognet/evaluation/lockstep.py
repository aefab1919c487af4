"""Jobs that go on side by side and meet: each in a thread of its own, of which one moves at a time.

A job is ordinary code that asks when it has come to a point where all should be together. So code that knows nothing of
others, such as the `learn` of somebody's strategy, can take part. Each has random states of its own.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from prognet.errors import PrognetError, UnwritableError
from prognet.training.determinism import random_states, set_random_states

T = TypeVar("T")
Question = TypeVar("Question")


class _AbandonedError(BaseException):
    """Unwinds a job that the others will not wait for."""


class Job(Generic[Question, T]):
    """One of the jobs."""

    def __init__(self, work: Callable[["Job[Question, T]"], T]) -> None:
        self._work = work
        self._questions: SimpleQueue[Question | None] = SimpleQueue()
        self._answers: SimpleQueue[object] = SimpleQueue()
        self._random = random_states()
        self._thread = threading.Thread(target=self._carry_out, daemon=True)  # a second Ctrl-C must not wait for it
        self.question: Question | None = None
        self.outcome: T | BaseException | None = None

    def ask(self, question: Question) -> object:
        """Waits until the others have come as far, and for the answer; called in the job's own thread."""
        self._questions.put(question)
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def go_on(self, answer: object = None) -> bool:
        """Lets the job go on with an answer, to its next question or its end -> whether it has a question."""
        outside = random_states()
        set_random_states(self._random)
        try:
            if self._thread.ident is None:
                self._thread.start()
            else:
                self._answers.put(answer)
            self.question = self._questions.get()
        finally:
            self._random = random_states()
            set_random_states(outside)
        return self.question is not None

    def within(self, work: Callable[[], None]) -> None:
        """Does something with the random states of this job, which stands still."""
        outside = random_states()
        set_random_states(self._random)
        try:
            work()
        finally:
            self._random = random_states()
            set_random_states(outside)

    def abandon(self) -> None:
        """Lets the job end where it stands, or at its next question."""
        if self._thread.is_alive():
            self._answers.put(_AbandonedError())
            self._thread.join()

    def _carry_out(self) -> None:
        try:
            self.outcome = self._work(self)
        except BaseException as error:  # it belongs to whoever waits for the outcome
            self.outcome = error
        self._questions.put(None)


def in_lockstep(
    works: Sequence[Callable[[Job[Question, T]], T]],
    answer: Callable[[Sequence[Job[Question, T]]], Mapping[Job[Question, T], object]],
) -> list[T | PrognetError]:
    """Carries out jobs that meet at their questions.

    Args:
        works: what each job does; it is given the job, which it can ask.
        answer: answers questions, when all jobs that are not over have one. A job without an answer goes on waiting; an
            answer that is an error is raised where the question was asked.

    Returns:
        What each job returned, or the error that ended it.

    Raises:
        BaseException: any error that is no `PrognetError`, and a disk that is full; the other jobs are then abandoned.
    """
    jobs = [Job(work) for work in works]
    try:
        asking = [job for job in jobs if _goes_on(job, None)]
        while asking:
            answers = answer(asking)
            asking = [job for job in asking if job not in answers or _goes_on(job, answers[job])]
    finally:
        for job in jobs:
            job.abandon()
    return [job.outcome for job in jobs]  # type: ignore[misc]  # neither None nor another error by now


def _goes_on(job: Job[Question, T], answer: object) -> bool:
    """Lets a job go on -> whether it has a question; an error that concerns all is raised at once."""
    asks, error = job.go_on(answer), job.outcome
    if isinstance(error, BaseException) and (not isinstance(error, PrognetError) or isinstance(error, UnwritableError)):
        raise error
    return asks
