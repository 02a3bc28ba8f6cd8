"""Whitening of photographs: logarithm, band-pass filter that flattens the 1/f spectrum, unit
variance.

References:
    Olshausen and Field (1997), Sparse coding with an overcomplete basis set: a strategy employed by
    V1? (the filter) Carandini and Heeger (2012), Normalization as a canonical neural computation
    (divisive normalization) Jarrett, Kavukcuoglu, Ranzato and LeCun (2009), What is the best
    multi-stage architecture for object recognition? (subtractive and divisive)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from itervae.errors import InputError

LOG_OFFSET = 0.05
CUTOFF = 0.4  # cycles per pixel
CONTRAST_SIGMA = 4.0  # pixels
CONTRAST_FLOOR = 0.1  # in units of the standard deviation of the image
PUBLISHED_SIGMA, PUBLISHED_RADIUS = 3.0, 6  # pixels: a Gaussian in 13x13

# Two greys that are equal may differ by rounding once colour is converted; one step of 16 bits is
# fifteen times larger.
CONSTANT_RANGE = 1e-6


def is_constant(image: Tensor) -> Tensor:
    """Whether each grey image (..., H, W) is constant: its range is at most 1e-6. Returns (...)
    bool."""
    return image.amax((-2, -1)) - image.amin((-2, -1)) <= CONSTANT_RANGE


def filter_gain(height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """R(f) = f·exp(−(f/f₀)⁴), f₀ = .4 cycles per pixel, f = hypot(f_x, f_y): (height, width)
    float64, in FFT order."""
    f_y = torch.fft.fftfreq(height, dtype=torch.float64, device=device)
    f_x = torch.fft.fftfreq(width, dtype=torch.float64, device=device)
    f = torch.hypot(f_y[:, None], f_x[None, :])
    return f * torch.exp(-((f / CUTOFF) ** 4))


def standardize_image(image: Tensor, colour: bool = False) -> Tensor:
    """Each image minus its mean, scaled to unit variance: (..., H, W) to (..., H, W), same dtype.

    With `colour` images are (..., C, H, W): each channel minus its own mean, and one scale for all
    of an image, which keeps the ratio of their contrasts.

    Raises:
        InputError: an image is constant.
    """
    _refuse_constant(image, colour)
    centred = image.double() - image.double().mean((-2, -1), keepdim=True)
    return _unit_variance(centred, colour).to(image.dtype)


def filter_image(image: Tensor) -> Tensor:
    """log(I + .05), minus its mean, filtered by R(f): what `whiten_image` scales to unit variance.

    (..., H, W) of grey I in [0, 1] to (..., H, W) of the same dtype, each of mean 0; a constant
    image becomes 0.
    """
    log_image = torch.log(image + LOG_OFFSET)
    log_image -= log_image.mean((-2, -1), keepdim=True)
    height, width = image.shape[-2:]
    # A real image has a symmetric spectrum: rfft2 holds columns 0 to W/2 of the FFT-ordered grid,
    # irfft2 the rest.
    gain = filter_gain(height, width, device=image.device)[:, : width // 2 + 1].to(image.dtype)
    return torch.fft.irfft2(torch.fft.rfft2(log_image) * gain, s=(height, width))


def whiten_image(image: Tensor, colour: bool = False) -> Tensor:
    """Whiten images I in [0, 1], each by itself.

    log(I + .05); minus its mean; filtered by R(f), see `filter_gain`, with periodic borders; scaled
    to unit variance.

    Args:
        image: (..., H, W), floating point, in [0, 1].
        colour: whether images are (..., C, H, W): each channel is filtered by itself, and one scale
            for all of an image keeps the ratio of their contrasts.

    Returns:
        the same shape and dtype, each image with mean 0 and variance 1. It is computed in
        float64, so that the frequencies which R takes down to 1e-5 are not made of rounding errors.

    Raises:
        InputError: an image is constant.
    """
    _refuse_constant(image, colour)
    return _unit_variance(filter_image(image.double()), colour).to(image.dtype)


def local_contrast_normalize(image: Tensor, sigma: float = CONTRAST_SIGMA) -> Tensor:
    """Divide each pixel by the contrast around it: y = x / sqrt(c² + G*x²).

    G is a Gaussian window of standard deviation `sigma`, cut at 3 sigma and at the borders of the
    image, where its weights are scaled to sum to one again. c = 0.1 keeps regions without contrast
    at zero instead of amplifying them.

    Args:
        image: (..., H, W), of mean 0 and about unit variance, as from `whiten_image`.
        sigma: in pixels, above 0.

    Returns:
        (..., H, W) of the same dtype; finite everywhere, 0 where x is 0, |y| ≤ |x| / c.

    Raises:
        InputError: sigma is not positive.
    """
    if not sigma > 0:
        raise InputError(f"sigma {sigma} is no width of a window; give a positive number of pixels.")
    energy = _local_mean(image.square(), sigma, max(1, round(3 * sigma)))
    return image / (CONTRAST_FLOOR**2 + energy).sqrt()


def subtract_and_divide_contrast(image: Tensor) -> Tensor:
    """Local contrast normalization as published with the P-VAE (Jarrett et al. 2009): the mean
    around each pixel is subtracted, then the contrast around it divides,

        v = x − G*x,   σ² = G*v²,   y = v / max(σ, mean of σ over the image)

    G is a Gaussian window of 13x13 pixels, standard deviation 3. At the borders of the image its
    weights are scaled to sum to one again; the published code takes zeros outside, and crops 4
    pixels afterwards, which nothing here has to.

    Args:
        image: (..., H, W), not constant, as from `whiten_image`.

    Returns:
        (..., H, W) of the same dtype.
    """
    v = image - _local_mean(image, PUBLISHED_SIGMA, PUBLISHED_RADIUS)
    sigma = _local_mean(v.square(), PUBLISHED_SIGMA, PUBLISHED_RADIUS).sqrt()
    return v / sigma.maximum(sigma.mean((-2, -1), keepdim=True))


def _local_mean(image: Tensor, sigma: float, radius: int) -> Tensor:
    """G*x: the mean around each pixel of (..., H, W), weighted by a Gaussian window of 2·radius + 1
    pixels, whose weights are scaled to sum to one at the borders."""
    height, width = image.shape[-2:]
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    window = torch.exp(-(offsets**2) / (2 * sigma**2))

    def blur(x: Tensor) -> Tensor:  # (n, 1, H, W), zeros outside
        x = F.conv2d(x, window.view(1, 1, -1, 1), padding=(radius, 0))
        return F.conv2d(x, window.view(1, 1, 1, -1), padding=(0, radius))

    total = blur(image.reshape(-1, 1, height, width))
    weight = blur(torch.ones(1, 1, height, width, dtype=image.dtype, device=image.device))
    return (total / weight).reshape(image.shape)


CONTRAST_RULES = {"divisive": local_contrast_normalize, "published": subtract_and_divide_contrast}
"""How local contrast is normalized, by the names of the setting `contrast_rule`."""


def _unit_variance(centred: Tensor, colour: bool = False) -> Tensor:
    axes = (-3, -2, -1) if colour else (-2, -1)
    return centred / centred.square().mean(axes, keepdim=True).sqrt()


def _refuse_constant(image: Tensor, colour: bool = False) -> None:
    if image.dim() < 2 + colour or not image.is_floating_point():
        raise InputError(
            f"a tensor of shape {tuple(image.shape)} and {image.dtype} is no image; give (..., H, W) floating point."
        )
    constant = is_constant(image).all(-1) if colour else is_constant(image)
    if bool(constant.any()):
        raise InputError("an image is constant, so it has no variance to scale; leave it out.")
