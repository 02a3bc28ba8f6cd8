"""Sound in .wav files, as SciPy reads them."""

import warnings
from pathlib import Path

import numpy as np

from itervae.formats.kinds import Format


def sample_rate(path: Path) -> int:
    """Samples a second of a .wav file."""
    return _opened(path)[0]


def _read(path: Path, name: str) -> np.ndarray:
    """One recording, (1, T) or (1, C, T) of C channels, float32; whole numbers become [−1, 1)."""
    _, samples = _opened(path)
    if samples.dtype.kind in "iu":
        half = 2 ** (8 * samples.dtype.itemsize - 1)
        samples = (samples.astype(np.float64) - (half if samples.dtype.kind == "u" else 0)) / half
    samples = samples.astype(np.float32)
    return samples[None] if samples.ndim == 1 else np.ascontiguousarray(samples.T)[None]


def _opened(path: Path) -> tuple[int, np.ndarray]:
    from scipy.io import wavfile  # takes a moment that other files need not wait

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
        return wavfile.read(path)


WAVE = Format(_read)
