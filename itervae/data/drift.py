"""Sequences without a video: what a small window sees that moves over a photograph as the eye does.

Between saccades the gaze drifts by Brownian motion; saccades are a Poisson process, and each lands
anywhere in the region. Whitened photographs hold next to nothing above the Nyquist frequency, so
they are interpolated exactly, by their Fourier series, and windows stand at quarters of a pixel.

References:
    Kuang, Poletti, Victor and Rucci (2012), Temporal encoding of spatial information during active
    visual fixation
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from itervae.data.images import images_from_array
from itervae.data.photographs import BAND_START, prepare_images
from itervae.data.pixels import Pixels, keep_pixels
from itervae.data.pools import Pool
from itervae.data.settings import DataSettings
from itervae.data.source import Fitted
from itervae.data.tubes import TubeSource
from itervae.errors import InputError

FINE = 4  # places per pixel
DRIFT = 0.5  # standard deviation of a step along each axis, in pixels per frame
SACCADES = 0.1  # per frame: three per second of thirty frames


def interpolate_image(image: Tensor, factor: int) -> Tensor:
    """The Fourier series of a periodic image (H, W), taken `factor` times per pixel: (factor·H,
    factor·W).

    Every factor-th value is the image itself.
    """
    height, width = image.shape
    spectrum = torch.fft.fftshift(torch.fft.fft2(image.double()))
    # The zero frequency lies at n // 2 and must come to lie at factor·n // 2.
    top, left = factor * height // 2 - height // 2, factor * width // 2 - width // 2
    bottom, right = (factor - 1) * height - top, (factor - 1) * width - left
    padded = torch.fft.ifftshift(F.pad(spectrum, (left, right, top, bottom)))
    return (torch.fft.ifft2(padded).real * factor**2).to(image.dtype)


def gaze(
    generator: np.random.Generator, size: np.ndarray, frames: int, drift: float = DRIFT, saccades: float = SACCADES
) -> np.ndarray:
    """Places of the gaze: (B, T, 2), row and column in pixels, in [0, size].

    x_0 is uniform, x_t = x_{t−1} + drift · n with n standard normal, reflected at the borders; with
    the probability 1 − exp(−saccades) of at least one event of a Poisson process, x_t is uniform
    again.

    Args:
        generator: source of randomness.
        size: (B, 2), how far the gaze of each may go.
        frames: T.
        drift: pixels per frame, at least 0.
        saccades: events per frame, at least 0.
    """
    places = np.empty((len(size), frames, 2))
    places[:, 0] = generator.random((len(size), 2)) * size
    for t in range(1, frames):
        moved = places[:, t - 1] + drift * generator.standard_normal((len(size), 2))
        jump = generator.random((len(size), 1)) < -np.expm1(-saccades)
        landing = generator.random((len(size), 2)) * size
        places[:, t] = np.where(jump, landing, _reflected(moved, size))
    return places


def _reflected(x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Folded into [0, size], as by mirrors at both ends."""
    period = 2 * np.where(size > 0, size, 1)
    folded = np.abs((x + period / 2) % period - period / 2)
    return np.where(size > 0, folded, 0)


class DriftPool(Pool):
    """Tubes of a window that drifts over regions of photographs, a larger region being more likely.

    Args:
        pixels: of the regions, interpolated.
        sizes: (FINE·H, FINE·W) of each, none smaller than the patch.
        frames, patch_size: T and P.
    """

    kind = "tubes"

    def __init__(self, pixels: Pixels, sizes: Sequence[tuple[int, int]], frames: int, patch_size: int):
        self.pixels, self.frames, self.patch_size, self.count = pixels, frames, patch_size, len(sizes)
        size = torch.tensor(sizes, device=pixels.values.device)
        self._width = size[:, 1]
        self._offset = size.prod(1).cumsum(0) - size.prod(1)
        # How far the upper left corner may go, in pixels.
        self._room = np.array(sizes) // FINE - patch_size
        places = (self._room + 1).prod(1)
        self.positions = int(places.sum())
        self._share = places / places.sum()

    def draw(self, generator: np.random.Generator, count: int) -> Tensor:
        """The region, and row and column of the corner on its fine grid, in each frame: (count, T,
        3) int64."""
        region = generator.choice(self.count, size=count, p=self._share)
        corner = np.rint(gaze(generator, self._room[region], self.frames) * FINE).astype(np.int64)
        regions = np.broadcast_to(region[:, None, None], (count, self.frames, 1))
        return torch.from_numpy(np.concatenate([regions, corner], 2))

    def cut(self, places: Tensor) -> Tensor:
        """Each frame minus its mean: (B, T, 3) to (B, T, P²) float32."""
        region, row, column = places.to(self.pixels.values.device).unbind(2)  # (B, T) each
        width = self._width[region]
        start = self._offset[region] + row * width + column
        side = FINE * torch.arange(self.patch_size, device=start.device)
        patch = width[..., None, None] * side[:, None] + side  # (B, T, P, P)
        tubes = self.pixels.take(start[..., None] + patch.flatten(2))
        return tubes.sub_(tubes.mean(2, keepdim=True))


def load_drift(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> TubeSource:
    """`drift_source` as `settings` say."""
    options = {"frames": settings.frames, "patch_size": settings.patch_size, "val_share": settings.val_share}
    return drift_source(seed, **options, device=device)


def drift_source(
    seed: int,
    *,
    frames: int = 16,
    patch_size: int = 16,
    val_share: float = 0.2,
    device: str | torch.device = "cpu",
) -> TubeSource:
    """Drifting windows over the two photographs that come with scikit-learn.

    The band of columns that `photos` holds out for validation is held out here; no window crosses
    its borders.

    Args:
        seed: of the training tubes.
        frames, patch_size: T and P of the tubes.
        val_share: share of the columns that is held out.
        device: where the images live.

    Raises:
        InputError: a frames below 1, a patch_size below 2, or a val_share that leaves no room for
            the patch.
    """
    from sklearn.datasets import load_sample_images  # imported here: it takes a second that other data need not wait

    if frames < 1 or patch_size < 2:
        raise InputError(f"tubes of {frames} frames of side {patch_size} cannot be cut; give at least 1 and 2.")
    pictures, where = np.stack(load_sample_images().images), "scikit-learn's photographs"
    images = images_from_array(pictures, where, patch_size, quiet=True)
    training, validation = [], []
    for image in prepare_images(images, DataSettings()):
        width = image.shape[1]
        held = round(val_share * width)
        first = min(round(BAND_START * width), width - held)
        beside = [(start, end) for start, end in ((0, first), (first + held, width)) if end - start >= patch_size]
        if held < patch_size or not beside:
            raise InputError(
                f"a share of {val_share} divides {width} columns into {width - held} and {held}, and patches need "
                f"{patch_size} in each; give another share or a smaller patch."
            )
        fine = interpolate_image(image, FINE)
        training += [fine[:, FINE * start : FINE * end] for start, end in beside]
        validation.append(fine[:, FINE * first : FINE * (first + held)])

    def pool(regions: list[Tensor], part: str) -> DriftPool:
        made_from = ("drift", images.content, FINE, val_share, patch_size, part)
        pixels = keep_pixels(regions, sum(region.numel() for region in regions), made_from, device)
        return DriftPool(pixels, [(region.shape[0], region.shape[1]) for region in regions], frames, patch_size)

    train, held = pool(training, "training"), pool(validation, "validation")
    facts: dict[str, int | float | str | bool] = {"drift": DRIFT, "saccades": SACCADES}
    return TubeSource("drift", train, {"drift": held}, seed, frames, facts=facts, device=device)
