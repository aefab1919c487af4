import subprocess
import sys
from pathlib import Path

import pytest

from prognet.errors import RunFolderError
from prognet.files import write_json
from prognet.manifest import Manifest, write_manifest
from prognet.report import write_report
from prognet.report.plots import PLOTS
from prognet.results import Results
from tests.helpers.results import make_results

MANIFEST = Manifest(
    command=["prognet", "run", "demo"],
    stream={},
    backbone={},
    training={},
    measurement={},
    execution={},
    strategies=["progressive", "independent"],
    seeds=[0, 1],
    orders=[0],
    environment={},
    created="today",
)
FREE_OF_TORCH = """
import sys
from prognet.report import write_report
write_report(sys.argv[1])
loaded = {name.partition(".")[0] for name in sys.modules} & {"torch", "avalanche", "torchvision", "sklearn", "pandas"}
assert not loaded, loaded
assert "matplotlib.pyplot" not in sys.modules
"""


def save(results: Results, folder: Path) -> None:
    for run in results:
        run.save(folder / "runs" / run.strategy / f"order-{run.order}-seed-{run.seed}")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save(make_results(["progressive", "independent"], seeds=2, n_tasks=2), folder)
    write_manifest(folder, MANIFEST)
    assert write_report(str(folder)) == folder / "report.html"
    return folder


def test_every_file_is_written(written: Path) -> None:
    found = {name for name in content(written) if not name.startswith("runs")}
    tables = (
        "summary",
        "further",
        "differences-accuracy",
        "differences-learning",
        "tasks",
        "costs",
        "frozen",
        "digests",
        "leaderboard",
        "delta-m",
        "negative-transfer",
    )
    names = (*(plot.name for plot in PLOTS), "delta-m")
    assert found == {
        "manifest.json",
        "report.html",
        *(f"figures/{name}.{ending}" for name in names for ending in ("png", "svg")),
        *(f"tables/{name}.{ending}" for name in tables for ending in ("csv", "md", "tex")),
    }


def test_files_are_what_their_endings_say(written: Path) -> None:
    files = content(written)
    assert all(files[name][:8] == b"\x89PNG\r\n\x1a\n" for name in files if name.endswith(".png"))
    assert all(b"<svg" in files[name] and b"</svg>" in files[name] for name in files if name.endswith(".svg"))
    assert files["report.html"].startswith(b"<!DOCTYPE html>")


def test_the_manifest_is_read(written: Path) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    assert "<pre>prognet run demo</pre>" in page
    assert "<td>today</td>" in page


def test_the_same_runs_give_the_same_files(written: Path) -> None:
    before = content(written)
    write_report(written)
    assert content(written) == before


def test_the_report_needs_no_torch(written: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREE_OF_TORCH, str(written)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="folder: required at least one finished run below"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_another_version_is_named_and_the_report_is_written_without_it(tmp_path: Path) -> None:
    save(make_results(["progressive"], seeds=1, n_tasks=1), tmp_path)
    write_json(tmp_path / "manifest.json", "prognet.folder", 99, {})
    page = write_report(tmp_path).read_text()
    assert "Left out, since it is damaged: manifest.json: " in page
    assert "required version 3 of prognet.folder, found 99; it was written by another release" in page
    assert "No command was recorded." in page
