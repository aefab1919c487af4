"""A ResNet-18 progressive network on a stream of colour images, end to end: run, report, proof."""

from pathlib import Path

import pytest

import prognet
from prognet.cli import main
from prognet.metrics import average_accuracy, forgetting
from tests.helpers.commands import options
from tests.helpers.rgb import N_TASKS, rgb_digits, save_rgb_digits


@pytest.mark.slow
def test_a_narrow_resnet18_runs_from_the_command_line(tmp_path: Path) -> None:
    """With torchvision's layout and a stem for small images: run, report and verify."""
    data = save_rgb_digits(tmp_path / "digits.npz", rgb_digits(side=16, enlarged=1, n_train=60, n_test=16))
    out = tmp_path / "run"
    changes = options(path=data, out=out, strategies=["progressive"], epochs=5, lr=0.005)
    assert main(["run", "from-npz", *changes, "--backbone", "resnet18(channels=4)"]) == 0
    (run,) = prognet.load_results(out)
    R = run.accuracy
    assert R.shape == (N_TASKS, N_TASKS)
    assert forgetting(R) == 0.0  # to the last bit: nothing that was measured once has changed
    assert average_accuracy(R) > 0.75
    assert main(["verify", str(out)]) == 0
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "progressive" in page
    assert "resnet18" in page


@pytest.mark.slow
def test_torchvisions_resnet18_learns_five_tasks_and_forgets_none(tmp_path: Path) -> None:
    """The published network, 11 million parameters a column, on 32 x 32 pixels."""
    tasks = rgb_digits(side=32, enlarged=3, n_train=100, n_test=25)
    stream = prognet.streams.from_arrays(tasks)
    backbone = prognet.backbones.torchvision("resnet18")
    result = prognet.run(
        prognet.Progressive(backbone),
        stream,
        training=prognet.Training(epochs=3, batch_size=16, lr=0.001),
        measurement=prognet.Measurement(lca_updates=1, curve_points=0),
        device="cpu",
        threads=1,
        out=tmp_path,
    )
    R = result.accuracy
    assert forgetting(R) == 0.0
    assert average_accuracy(R) > 0.75
    assert result.config["backbone"] == {
        "name": "torchvision",
        "arguments": {"model": "resnet18", "options": {}, "weights": None},
    }
    assert [verdict.problem for verdict in prognet.verify(tmp_path)] == [None]
    assert prognet.report.write_report(tmp_path).exists()
