import subprocess
import sys

import pytest

import prognet.streams


@pytest.mark.parametrize("name", prognet.streams.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(prognet.streams, name).__name__ == name or name == "Schedule"
    assert name in dir(prognet.streams)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'prognet.streams' has no attribute 'split_mist'"):
        _ = prognet.streams.split_mist


def test_importing_the_streams_imports_no_library_of_a_builder() -> None:
    names = "from_arrays, from_npz, from_folder, from_avalanche, split_mnist, split_digits, Stream"
    heavy = "{'avalanche', 'torchvision', 'sklearn', 'scipy', 'pandas', 'matplotlib', 'PIL'}"
    code = f"import sys; from prognet.streams import {names}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_alone_imports_no_torch() -> None:
    code = "import sys, prognet.streams; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
