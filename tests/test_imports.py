"""What importing prognet costs: nothing, and the engine costs no more than torch."""

import json
import subprocess
import sys

import pytest

HEAVY = {"avalanche", "jinja2", "matplotlib", "pandas", "scipy", "sklearn", "torchvision"}


def modules_after(code: str) -> set[str]:
    """The outermost packages that a fresh interpreter has imported after `code`."""
    program = f"{code}\nimport json, sys\nsys.stdout.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_the_package_imports_nothing() -> None:
    loaded = modules_after("import prognet")
    assert "prognet" in loaded
    assert not loaded & {"torch", "numpy", "rich", "tyro", *HEAVY}


@pytest.mark.parametrize("name", ["config", "errors", "files", "metrics", "results", "seeds", "statistics"])
def test_floor_zero_imports_numpy_at_most(name: str) -> None:
    loaded = modules_after(f"import prognet.{name}")
    assert not loaded & {"torch", "rich", "tyro", *HEAVY}


@pytest.mark.parametrize("name", ["report", "catalogue", "cli"])
def test_report_and_command_line_import_no_torch(name: str) -> None:
    loaded = modules_after(f"import prognet.{name}")
    assert not loaded & {"torch", *HEAVY}


@pytest.mark.parametrize("name", ["engine", "backbones", "training", "streams", "strategies", "evaluation"])
def test_the_work_needs_torch_at_most(name: str) -> None:
    assert not modules_after(f"import prognet.{name}") & {"rich", "tyro", *HEAVY}


def test_a_public_name_loads_only_its_own_home() -> None:
    assert "torch" not in modules_after("import prognet; prognet.Training(epochs=1)")
    loaded = modules_after("import prognet; prognet.ProgressiveNetwork")
    assert "torch" in loaded
    assert not loaded & HEAVY
