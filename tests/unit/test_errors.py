import pickle

import pytest

from prognet import errors
from prognet.errors import PrognetError, UnknownNameError, unknown_name

BUILTINS = {
    "ConfigError": ValueError,
    "UnknownNameError": LookupError,
    "SiteError": ValueError,
    "FrozenColumnError": RuntimeError,
    "CheckpointError": ValueError,
    "StreamError": ValueError,
    "MissingDataError": FileNotFoundError,
    "UnlearnedTaskError": LookupError,
    "ControlUnavailableError": TypeError,
    "DivergedError": ArithmeticError,
    "RunFolderError": OSError,
    "JSONValueError": TypeError,
    "UsageError": ValueError,
    "UnwritableError": OSError,
    "LockedError": OSError,
    "MemoryExhaustedError": MemoryError,
    "RunError": RuntimeError,
}


def own_errors() -> dict[str, type[PrognetError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, PrognetError) and value is not PrognetError
    }


def test_every_error_is_named_here_with_the_builtin_it_specialises() -> None:
    assert set(BUILTINS) <= set(own_errors())
    for name, error in own_errors().items():
        builtins = [base for base in error.__mro__ if base.__module__ == "builtins" and base is not Exception]
        assert len(builtins) > 2, f"{name} specialises no builtin but {builtins}"  # beside BaseException and object


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_an_error_is_caught_as_its_builtin_and_shows_its_message(name: str) -> None:
    with pytest.raises(BUILTINS[name]) as caught:
        raise own_errors()[name]("lr: required more, found less.")
    assert isinstance(caught.value, PrognetError)
    assert str(caught.value) == "lr: required more, found less."


@pytest.mark.parametrize("name", sorted(own_errors()))
def test_an_error_can_be_sent_to_another_process(name: str) -> None:
    error = own_errors()[name]("lr: required more, found less.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error) == "lr: required more, found less."
    assert copy.args == error.args


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    error = unknown_name("strategy", "progresive", ["finetune", "progressive"])
    assert isinstance(error, UnknownNameError)
    assert str(error) == "strategy: 'progresive' is not known; did you mean 'progressive'?"


def test_an_unknown_name_far_from_all_gets_the_sorted_list() -> None:
    assert str(unknown_name("stream", "zzz", ["split-digits", "digits"])) == (
        "stream: 'zzz' is not known; known: digits, split-digits."
    )


def test_an_unknown_name_among_none_says_so() -> None:
    assert str(unknown_name("recipe", "x", [])) == "recipe: 'x' is not known; known: none."
