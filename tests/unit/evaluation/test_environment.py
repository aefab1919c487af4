import json
from typing import Any

import pytest
import torch

import prognet
from prognet.errors import ConfigError
from prognet.evaluation.environment import describe_environment, resolve_device, resolve_threads

HAS_CUDA, HAS_MPS = torch.cuda.is_available(), torch.backends.mps.is_available()


def test_the_cpu() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(HAS_CUDA or HAS_MPS, reason="there is an accelerator")
def test_without_an_accelerator_auto_is_the_cpu() -> None:
    assert resolve_device("auto") == torch.device("cpu")


def test_auto_takes_mps_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")


def test_auto_takes_cuda_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert resolve_device("auto") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device: required 'auto' or a device of this machine, found '{name}' \\("):
        resolve_device(name)


def test_the_environment_is_json() -> None:
    found = describe_environment(torch.device("cpu"), 3)
    assert json.loads(json.dumps(found)) == found
    assert found["prognet"] == prognet.__version__
    assert found["torch"] == torch.__version__
    assert (found["device"], found["dtype"], found["threads"]) == ("cpu", "float32", 3)
    assert found["device_name"]


def test_threads_are_what_is_asked_for_or_those_of_torch() -> None:
    assert resolve_threads(5) == 5
    assert resolve_threads(None) == torch.get_num_threads()


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_are_a_number_of_threads(threads: Any) -> None:
    with pytest.raises(ConfigError, match="threads: required a whole number, at least 1, found"):
        resolve_threads(threads)
