"""From a waveform to log-mel features of a fixed size: the front end of the streams of speech.

The power spectrum of overlapping windows, summed under triangles that are equally spaced on the mel scale of HTK,

    mel(f) = 2595 log10(1 + f / 700)

(O'Shaughnessy 1987; Young et al., The HTK Book), in decibels below the loudest value of the word. So the loudness of a
recording does not matter, and silence is the floor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from prognet.errors import ConfigError, StreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """How a waveform becomes features.

    Raises:
        ConfigError: when a number is out of its range, or a triangle is so narrow that it holds no frequency.
    """

    rate: int = 22050
    """Samples of the waveform in a second."""
    window: int = 1024
    """Samples of a window, which is weighted by the periodic Hann function."""
    hop: int = 512
    """Samples from one window to the next."""
    frames: int = 40
    """Windows of a word: what is longer is cut, what is shorter is followed by silence."""
    mels: int = 32
    """Triangles."""
    low: float = 60.0
    """Where the first triangle begins, in hertz."""
    high: float = 8000.0
    """Where the last triangle ends, in hertz."""
    floor: float = -80.0
    """Decibels below the loudest value that still count."""

    def __post_init__(self) -> None:
        for name in ("rate", "window", "hop", "frames", "mels"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name}: required a whole number, at least 1, found {value!r}; give a larger one.")
        if not 0 <= self.low < self.high <= self.rate / 2:
            raise ConfigError(
                f"high: required 0 <= low < high <= {self.rate / 2:g} Hz, half of rate, found low={self.low:g}, "
                f"high={self.high:g}; choose frequencies in that order."
            )
        if not self.floor < 0:
            raise ConfigError(f"floor: required decibels below 0, found {self.floor!r}; give for instance -80.")
        if not mel_filters(self).any(dim=1).all():
            raise ConfigError(
                f"mels: required triangles that each hold a frequency of a window of {self.window} samples, found "
                f"{self.mels} from {self.low:g} to {self.high:g} Hz; ask for fewer, or for a longer window."
            )

    @property
    def samples(self) -> int:
        """Samples that all windows together see."""
        return (self.frames - 1) * self.hop + self.window

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the features of a word, as that of an image: (1, mels, frames)."""
        return 1, self.mels, self.frames


def hertz_to_mel(frequency: Tensor) -> Tensor:
    """Frequencies in hertz, any shape -> mel: 2595 log10(1 + f / 700), so that 1000 Hz are 1000 mel."""
    return 2595 * torch.log10(1 + frequency / 700)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """The inverse of `hertz_to_mel`: 700 (10^(m / 2595) - 1)."""
    return 700 * (10 ** (mel / 2595) - 1)


def mel_filters(front: FrontEnd) -> Tensor:
    """Weights (mels, window // 2 + 1), float64, of the frequencies k * rate / window, k = 0, 1, ...

    Triangle m rises linearly in hertz from 0 at corner m to 1 at corner m + 1, and falls to 0 at corner m + 2; the
    mels + 2 corners are equally spaced in mel from `low` to `high`.
    """
    low, high = hertz_to_mel(torch.tensor([front.low, front.high], dtype=torch.float64)).tolist()
    corners = mel_to_hertz(torch.linspace(low, high, front.mels + 2, dtype=torch.float64))  # (mels + 2,)
    bins = torch.arange(front.window // 2 + 1, dtype=torch.float64) * front.rate / front.window  # (bins,)
    left, centre, right = (corners[k : k + front.mels, None] for k in range(3))  # (mels, 1)
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)  # (mels, bins)
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel(wave: Tensor, front: FrontEnd, filters: Tensor) -> Tensor:
    """Features of one word.

    Everything is computed in double precision, so that the same word has the same bits among whatever other words.

    Args:
        wave: (N,), any number of samples, at `front.rate`.
        front: the settings.
        filters: `mel_filters(front)`.

    Returns:
        (1, mels, frames) float32: decibels in [floor, 0], 0 for the loudest value; frequencies ascend.

    Raises:
        StreamError: when the waveform is silent.
    """
    wave = wave.to(torch.float64)[: front.samples]
    wave = torch.nn.functional.pad(wave, (0, front.samples - len(wave)))  # (samples,)
    hann = torch.hann_window(front.window, dtype=torch.float64)
    spectrum = torch.stft(wave, front.window, front.hop, window=hann, center=False, return_complex=True)
    power = filters @ spectrum.abs().square()  # (mels, bins) @ (bins, frames)
    loudest = power.max()
    if loudest <= 0:
        raise StreamError("wave: required sound, found silence; look at the program or the file that it came from.")
    decibels = 10 * torch.log10(power / loudest)
    return decibels.clamp(min=front.floor).to(torch.float32).unsqueeze(0)
