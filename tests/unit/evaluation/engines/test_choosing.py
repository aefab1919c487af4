"""Devices and threads of runs that a cluster carries out, which this machine need not have."""

import pytest
import torch

from prognet.config import Workers
from prognet.errors import ConfigError
from prognet.evaluation.engines import device_for, engine_for, threads_for, trial_device_for
from prognet.evaluation.engines.cluster import Cluster
from prognet.evaluation.environment import describe_environment
from tests.helpers.fake_ray import installed

CPU, GPU = Workers(engine="ray"), Workers(engine="ray", gpus_per_run=0.25)


def test_a_cluster_is_chosen_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    assert isinstance(engine_for(CPU, "cpu"), Cluster)


def test_runs_of_a_cluster_have_a_gpu_where_one_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # of this machine, which has none
    assert device_for(GPU, "auto") == torch.device("cuda")
    assert device_for(GPU, "cuda") == torch.device("cuda")
    assert device_for(CPU, "auto") == torch.device("cpu")
    assert device_for(CPU, "cpu") == torch.device("cpu")
    assert trial_device_for(GPU, torch.device("cuda")) == torch.device("cpu")
    assert describe_environment(torch.device("cuda"), 1)["device"] == "cuda"
    assert describe_environment(torch.device("cuda"), 1)["device_name"] == "of another machine"


def test_a_gpu_that_machines_of_a_cluster_have_already_is_no_reason_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_for(CPU, "auto") == torch.device("cpu")


@pytest.mark.parametrize(
    ("workers", "device", "message"),
    [
        (CPU, "cuda", "gpus_per_run: required above 0 with device='cuda' and engine='ray', found 0 with device='cuda'"),
        (GPU, "cpu", "gpus_per_run: required 0 with a device that is no GPU, found 0.25 with device='cpu'"),
        (GPU, "cuda:1", "device: required 'cuda' with engine='ray', which chooses a GPU for every run, found 'cuda:1'"),
        (CPU, "cuda:1", "device: required 'cuda' with engine='ray', which chooses a GPU for every run, found 'cuda:1'"),
        (CPU, "quantum", "device: required 'auto' or a device of this machine, found 'quantum'"),
    ],
)
def test_a_device_that_no_run_would_have_is_refused(workers: Workers, device: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        device_for(workers, device)
    assert str(raised.value).startswith(message)


def test_without_a_cluster_devices_are_those_of_this_machine() -> None:
    assert device_for(Workers(), "cpu") == device_for(Workers(jobs=2), "cpu") == torch.device("cpu")
    assert trial_device_for(Workers(jobs=2), torch.device("meta")) == torch.device("meta")
    with pytest.raises(ConfigError, match="device: required 'auto' or a device of this machine"):
        device_for(Workers(), "cuda:77")


@pytest.mark.parametrize(("cpus", "required"), [(0.5, 1), (1.0, 1), (2.0, 2), (3.7, 3)])
def test_a_run_of_a_cluster_has_a_thread_for_each_whole_core(cpus: float, required: int) -> None:
    assert threads_for(Workers(engine="ray", cpus_per_run=cpus), None) == required
    assert threads_for(Workers(engine="ray", cpus_per_run=cpus), 5) == 5
