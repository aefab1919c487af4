"""The log-mel front end: against values by hand, and against a transcription in numpy without any FFT."""

from math import pi, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prognet.errors import ConfigError, StreamError
from prognet.streams.speech_mel import FrontEnd, hertz_to_mel, log_mel, mel_filters, mel_to_hertz

SMALL = FrontEnd(rate=8000, window=64, hop=24, frames=5, mels=6, low=100.0, high=3900.0, floor=-60.0)


def features(wave: Tensor, front: FrontEnd) -> Tensor:
    return log_mel(wave, front, mel_filters(front))


def noise(samples: int, seed: int = 0) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def oracle(wave: np.ndarray[Any, Any], front: FrontEnd) -> np.ndarray[Any, Any]:
    """Every window by a matrix of cosines and sines, every triangle by interpolation between its three corners."""
    wave = np.concatenate([wave, np.zeros(10 * front.window * front.frames)])
    n = np.arange(front.window)
    hann = 0.5 - 0.5 * np.cos(2 * pi * n / front.window)
    k = np.arange(front.window // 2 + 1)
    angles = 2 * pi * np.outer(k, n) / front.window
    low, high = (float(2595 * np.log10(1 + edge / 700)) for edge in (front.low, front.high))
    corners = 700 * (10 ** (np.linspace(low, high, front.mels + 2) / 2595) - 1)
    bins = k * front.rate / front.window
    power = np.zeros((front.mels, front.frames))
    for t in range(front.frames):
        piece = hann * wave[t * front.hop : t * front.hop + front.window]
        spectrum = (np.cos(angles) @ piece) ** 2 + (np.sin(angles) @ piece) ** 2
        for m in range(front.mels):
            power[m, t] = np.interp(bins, corners[m : m + 3], [0, 1, 0]) @ spectrum
    with np.errstate(divide="ignore"):
        decibels = 10 * np.log10(power / power.max())
    return np.asarray(np.clip(decibels, front.floor, 0))


def test_the_mel_scale_is_that_of_htk() -> None:
    hertz = torch.tensor([0.0, 700.0, 1000.0, 6300.0], dtype=torch.float64)
    mel = hertz_to_mel(hertz)
    # 2595 log10(1, 2, 17/7, 10); Slaney's scale has 15 for 1000 Hz
    assert mel.tolist() == pytest.approx([0.0, 781.1728, 999.9855, 2595.0], abs=1e-4)
    assert torch.allclose(mel_to_hertz(mel), hertz, atol=1e-9)


def test_a_triangle_by_hand() -> None:
    front = FrontEnd(rate=12600, window=8, hop=8, frames=1, mels=1, low=0.0, high=6300.0)
    # 0 to 2595 mel: the middle corner is at 1297.5 mel, 700 (sqrt(10) - 1) = 1513.594 Hz; bins at 0, 1575, ... 6300 Hz
    top = 700 * (sqrt(10) - 1)
    falling = [(6300 - bin_) / (6300 - top) for bin_ in (1575, 3150, 4725)]
    assert mel_filters(front).tolist() == [pytest.approx([0.0, *falling, 0.0])]
    assert falling == pytest.approx([0.98717, 0.65811, 0.32906], abs=1e-5)


def test_triangles_overlap_so_that_each_frequency_counts_once() -> None:
    filters = mel_filters(FrontEnd())
    assert filters.shape == (32, 513)
    covered = filters.sum(dim=0)
    heard = filters.argmax(dim=1)
    inside = slice(int(heard[0]) + 1, int(heard[-1]))  # from the first corner to the last one
    assert torch.allclose(covered[inside], torch.ones_like(covered[inside]))
    bins = torch.arange(513) * 22050 / 1024
    assert not filters[:, (bins <= 60) | (bins >= 8000)].any()
    assert (heard.diff() > 0).all()


@pytest.mark.parametrize("samples", [30, 160, 400])
def test_features_are_those_of_a_transcription(samples: int) -> None:
    assert SMALL.samples == 4 * 24 + 64 == 160
    wave = noise(samples)
    found = features(wave, SMALL)
    assert (found.dtype, tuple(found.shape)) == (torch.float32, SMALL.shape)
    assert SMALL.shape == (1, 6, 5)
    assert np.allclose(found[0].numpy(), oracle(wave.numpy(), SMALL), atol=1e-4)


def test_a_tone_is_loudest_where_it_is() -> None:
    front = FrontEnd()
    frequency = 100 * 22050 / 1024  # the 100th frequency of a window
    wave = torch.sin(2 * pi * frequency * torch.arange(front.samples, dtype=torch.float64) / front.rate)
    found = features(wave, front)[0]
    assert found.max().item() == 0
    assert found.argmax(dim=0).tolist() == [int(mel_filters(front)[:, 100].argmax())] * 40
    assert found.min().item() == -80  # far from the tone there is nothing


def test_loudness_does_not_matter() -> None:
    wave = noise(160)
    assert torch.equal(features(wave, SMALL), features(8 * wave, SMALL))
    sound = (1000 * wave).to(torch.int16)
    assert torch.equal(features(sound, SMALL), features(sound.double(), SMALL))


def test_what_is_longer_is_cut_and_what_is_shorter_ends_in_silence() -> None:
    wave = noise(400)
    assert torch.equal(features(wave, SMALL), features(wave[:160], SMALL))
    found = features(wave[:40], SMALL)[0]
    assert (found[:, 2:] == -60).all()  # the third window begins at 48
    assert (found[:, :2] > -60).any(dim=0).all()


def test_a_sound_is_heard_by_the_windows_over_it() -> None:
    wave = torch.zeros(160, dtype=torch.float64)
    wave[70] = 1  # windows begin at 0, 24, 48, 72, 96 and are 64 long
    heard = (features(wave, SMALL)[0] > -60).any(dim=0)
    assert heard.tolist() == [False, True, True, False, False]


def test_a_word_has_the_same_bits_with_any_number_of_threads() -> None:
    wave, threads = noise(22050), torch.get_num_threads()
    front = FrontEnd()
    alone = features(wave, front)
    try:
        torch.set_num_threads(2)
        assert torch.equal(features(wave, front), alone)
    finally:
        torch.set_num_threads(threads)


def test_silence_is_refused() -> None:
    with pytest.raises(StreamError) as caught:
        features(torch.zeros(100), SMALL)
    assert str(caught.value) == (
        "wave: required sound, found silence; look at the program or the file that it came from."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop": 0}, "hop: required a whole number, at least 1, found 0; give a larger one."),
        ({"mels": 2.5}, "mels: required a whole number, at least 1, found 2.5; give a larger one."),
        (
            {"low": 5000.0, "high": 4000.0},
            "high: required 0 <= low < high <= 11025 Hz, half of rate, found low=5000, high=4000; choose frequencies "
            "in that order.",
        ),
        ({"high": 12000.0}, "high: required 0 <= low < high <= 11025 Hz"),
        ({"floor": 0.0}, "floor: required decibels below 0, found 0.0; give for instance -80."),
        (
            {"mels": 200},
            "mels: required triangles that each hold a frequency of a window of 1024 samples, found 200 from 60 to "
            "8000 Hz; ask for fewer, or for a longer window.",
        ),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FrontEnd(**changes)
    assert str(caught.value).startswith(message)
