"""Joining a cluster: what is asked of Ray, how many runs fit on machines, and what is said where it fails."""

import os
import sys
from typing import Any

import pytest

from prognet.config import Workers
from prognet.errors import ConfigError
from prognet.evaluation.engines import engine_for
from prognet.evaluation.engines.connecting import connected, require_slots, slots
from tests.helpers.fake_ray import FakeRay, installed


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    return installed(monkeypatch)


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "required"),
    [
        ([{"CPU": 4.0}, {"CPU": 2.0}], 1.0, 0.0, 6),
        ([{"CPU": 4.0}, {"CPU": 2.0}], 3.0, 0.0, 1),
        ([{"CPU": 1.0}], 0.1, 0.0, 10),
        ([{"CPU": 8.0, "GPU": 2.0}], 1.0, 0.25, 8),
        ([{"CPU": 3.0, "GPU": 2.0}], 1.0, 0.25, 3),
        ([{"CPU": 8.0, "GPU": 2.0}], 1.0, 0.4, 4),  # two on each of two GPUs, as a run has its part on one of them
        ([{"CPU": 8.0, "GPU": 3.0}], 1.0, 2.0, 1),
        ([{"CPU": 8.0}], 1.0, 0.5, 0),
        ([{"memory": 1.0}], 1.0, 0.0, 0),
        ([], 1.0, 0.0, 0),
    ],
)
def test_runs_fit_by_cores_and_gpus(
    ray: FakeRay, machines: list[dict[str, float]], cpus: float, gpus: float, required: int
) -> None:
    ray.machines = machines
    workers = Workers(engine="ray", cpus_per_run=cpus, gpus_per_run=gpus)
    assert slots(workers) == required
    if required:
        require_slots(workers)
    else:
        with pytest.raises(ConfigError, match="cpus_per_run, gpus_per_run: required a machine with"):
            require_slots(workers)


def test_without_an_address_a_cluster_begins_here_and_ends_with_the_block(ray: FakeRay) -> None:
    with connected(Workers(engine="ray")):
        assert ray.is_initialized()
    assert not ray.is_initialized()
    assert [one["address"] for one in ray.joined] == ["local"]
    assert ray.joined[0]["log_to_driver"] is False
    assert ray.joined[0]["include_dashboard"] is False


def test_an_address_is_joined_and_left(ray: FakeRay) -> None:
    with connected(Workers(engine="ray", address="auto")):
        assert ray.is_initialized()
    assert not ray.is_initialized()
    assert [one["address"] for one in ray.joined] == ["auto"]


def test_no_statistics_are_sent_and_the_environment_is_as_it_was(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    seen: list[str | None] = []
    monkeypatch.setattr(sys.modules["ray"], "init", lambda **_: seen.append(os.environ.get("RAY_USAGE_STATS_ENABLED")))
    with connected(Workers(engine="ray")):
        pass
    assert seen == ["0"]
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    with connected(Workers(engine="ray")):
        pass
    assert seen == ["0", "1"]
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_a_cluster_that_is_not_there_is_refused(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**settings: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nPages follow.")

    monkeypatch.setattr(sys.modules["ray"], "init", fail)
    with (
        pytest.raises(ConfigError, match="address: required a Ray cluster to which this machine belongs") as raised,
        connected(Workers(engine="ray", address="10.0.0.1:6379")),
    ):
        pass
    assert "found none at '10.0.0.1:6379' (Could not find any running Ray instance.)" in str(raised.value)


def test_a_cluster_that_asks_for_a_token_is_told_from_one_that_is_not_there(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**settings: Any) -> None:
        raise ConnectionError("Failed to connect.") from RuntimeError("RPC error: InvalidAuthToken: missing.")

    monkeypatch.setattr(sys.modules["ray"], "init", fail)
    with (
        pytest.raises(ConfigError, match="Failed to connect.*; it asks for a token: set RAY_AUTH_MODE=token here"),
        connected(Workers(engine="ray", address="10.0.0.1:6379")),
    ):
        pass


def test_an_address_of_the_client_is_refused(ray: FakeRay) -> None:
    with (
        pytest.raises(ConfigError, match="address: required host:port, or auto, found 'ray://head:10001'"),
        connected(Workers(engine="ray", address="ray://head:10001")),
    ):
        pass
    assert ray.joined == []


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="engine: required the package ray with engine='ray', found .*prognet.ray."):
        engine_for(Workers(engine="ray"), "cpu")
