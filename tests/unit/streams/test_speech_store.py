from pathlib import Path

import pytest
import torch

from prognet.errors import StreamError, UnwritableError
from prognet.streams.speech_store import keep, place_of, recall

FEATURES = torch.arange(24, dtype=torch.float32).view(2, 3, 4)
SHAPE = (2, 3, 4)


def refused(place: Path, shape: tuple[int, ...] = SHAPE) -> str:
    with pytest.raises(StreamError) as caught:
        recall(place, shape)
    return str(caught.value)


def test_what_was_kept_is_recalled(tmp_path: Path) -> None:
    place = tmp_path / "new" / "a.safetensors"
    assert recall(place, SHAPE) is None
    keep(place, FEATURES)
    found = recall(place, SHAPE)
    assert found is not None
    assert torch.equal(found, FEATURES)
    assert [path.name for path in place.parent.iterdir()] == ["a.safetensors"]


def test_a_file_is_named_by_everything_that_decides_it(tmp_path: Path) -> None:
    known = place_of(tmp_path, "de", {"program": "1.51", "mels": 32})
    assert known.parent == tmp_path
    assert known.name.startswith("spoken-de-")
    assert place_of(tmp_path, "de", {"mels": 32, "program": "1.51"}) == known
    others = [
        place_of(tmp_path, "en", {"program": "1.51", "mels": 32}),
        place_of(tmp_path, "de", {"program": "1.52", "mels": 32}),
        place_of(tmp_path, "de", {"program": "1.51", "mels": 33}),
    ]
    assert len({known, *others}) == 4


def test_every_damage_is_seen(tmp_path: Path) -> None:
    place = tmp_path / "a.safetensors"
    keep(place, FEATURES)
    content = place.read_bytes()
    remedy = "; delete it to have it remade."
    changed = bytearray(content)
    changed[-5] ^= 1  # one bit of one number
    place.write_bytes(changed)
    assert refused(place) == f"{place}: required features as they were written, found other ones{remedy}"
    for damaged in (content[:-8], content[:20], b"", b"hello" * 9):
        place.write_bytes(damaged)
        said = refused(place)
        assert said.startswith(f"{place}: required features as they were written, found ")
        assert said.endswith(remedy)
    place.write_bytes(content)
    assert refused(place, (3, 3, 4)).endswith(f"found other ones{remedy}")
    assert recall(place, SHAPE) is not None


def test_a_folder_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError):
        keep(tmp_path / "file" / "a.safetensors", FEATURES)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    place = tmp_path / "a.safetensors"
    save_file({"other": FEATURES}, place)
    assert "found" in refused(place)
    save_file({"features": FEATURES}, place)  # without a digest
    assert refused(place).endswith("found other ones; delete it to have it remade.")
