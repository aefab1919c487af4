"""Files of a run folder that cannot be read: each is named on the page, and the report is made from the others."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from prognet.analysed import ANALYSIS_FILE, read_analysis
from prognet.errors import RunFolderError
from prognet.manifest import MANIFEST_FILE, read_manifest
from prognet.related import GEOMETRY_FILE, RELATEDNESS_FILE, read_geometry, read_relatedness
from prognet.report.facts import Manifest
from prognet.results import Results, readable_results

_RECORDS: Mapping[str, Callable[[Path], object]] = MappingProxyType(
    {ANALYSIS_FILE: read_analysis, RELATEDNESS_FILE: read_relatedness, GEOMETRY_FILE: read_geometry}
)


@dataclass(frozen=True)
class Contents:
    """What a run folder holds."""

    results: Results
    manifest: Manifest
    """Empty where there is none, or none that can be read."""
    damaged: Mapping[str, str]
    """By its place below the folder, what is wrong with a run or a file, and what to do."""
    unread: frozenset[Path]
    """Records beside runs that are not used: they are damaged, or their run is."""


def damaged_files(folder: str | Path) -> Mapping[str, str]:
    """By its place below the folder, what is wrong with every run and file that a report leaves out, and what to do.

    Raises:
        RunFolderError: when no finished run can be read.
    """
    return read_contents(Path(folder)).damaged


def read_contents(folder: Path) -> Contents:
    """Reads what can be read.

    Raises:
        RunFolderError: when no finished run can be read.
    """
    results, damaged_runs = readable_results(folder)
    damaged, unread = dict(damaged_runs), set[Path]()
    for name, read in _RECORDS.items():
        for path in sorted(folder.rglob(name)):
            try:
                if str(path.parent.relative_to(folder)) in damaged_runs:
                    unread.add(path)
                else:
                    read(path.parent)
            except RunFolderError as error:
                unread.add(path)
                damaged[str(path.relative_to(folder))] = str(error)
    manifest: Manifest = {}
    try:
        manifest = asdict(read_manifest(folder)) if (folder / MANIFEST_FILE).exists() else {}
    except RunFolderError as error:
        damaged[MANIFEST_FILE] = str(error)
    return Contents(results, manifest, damaged, frozenset(unread))
