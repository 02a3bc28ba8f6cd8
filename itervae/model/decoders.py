"""Decoders from latents z (..., K) to the mean, or the logits, of x (..., D)."""

import math
from itertools import pairwise

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from itervae.arguments import check_choice, check_kind, check_whole
from itervae.errors import InputError
from itervae.model.convolution import ConvolutionalDecoder
from itervae.model.operators import LinearDecoder, OperatorDecoder
from itervae.model.settings import DECODERS, ModelSettings, VAESettings
from itervae.own import make

ATOM_SIZE = 16
"""Side of convolutional atoms, unless something else is said."""


class MLPDecoder(nn.Sequential):
    """Latents through fully connected hidden layers with SiLU, to D values.

    Args:
        size: D.
        latents: K.
        hidden: widths of the hidden layers.
    """

    def __init__(self, size: int, latents: int, hidden: tuple[int, ...] = (512, 512)) -> None:
        check_kind("hidden", hidden, tuple | list, f"the widths of the hidden layers, such as ({hidden},)")
        widths = (latents, *hidden)
        for name, width in (("size", size), ("latents", latents), *(("hidden", width) for width in hidden)):
            check_whole(name, width, 1)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.SiLU()]
        super().__init__(*layers, nn.Linear(widths[-1], size))


class ConvDecoder(nn.Module):
    """Counts to a quarter-size map of `channels`, then two upsampling convolutions, to one grey
    image.

    Args:
        shape: (H, W), both multiples of 4.
        latents: K.
        channels: channels at half and full resolution; twice as many at a quarter.
    """

    def __init__(self, shape: tuple[int, int], latents: int, channels: int = 32) -> None:
        super().__init__()
        height, width = quarter(shape)
        check_whole("latents", latents, 1)
        self.layers = nn.Sequential(
            nn.Linear(latents, 2 * channels * height * width),
            Rearrange("b (c h w) -> b c h w", h=height, w=width),
            nn.SiLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, 1, 3, padding=1),
            nn.Flatten(),
        )

    def forward(self, z: Tensor) -> Tensor:
        flat = self.layers(z.reshape(-1, z.shape[-1]))
        return flat.reshape(*z.shape[:-1], flat.shape[-1])


def quarter(shape: tuple[int, ...]) -> tuple[int, int]:
    """(H/4, W/4) of an image shape; InputError where that does not exist."""
    if len(shape) != 2 or shape[0] % 4 or shape[1] % 4:
        raise InputError(
            f"data of shape {tuple(shape)} do not fit a conv encoder or decoder: expected images (H, W) with both "
            "sides multiples of 4; use linear or mlp"
        )
    return shape[0] // 4, shape[1] // 4


def _own(kind: type[nn.Module], shape: tuple[int, ...], latents: int) -> nn.Module:
    """A decoder of a user's own, refused where it does not give flat data."""
    decoder = make(kind, f"{kind.__name__}(shape, latents)", shape, latents)
    if isinstance(decoder, OperatorDecoder):
        return decoder  # whose operator says what it gives
    with torch.no_grad():
        found = decoder.eval()(torch.zeros(2, latents))
    decoder.train()
    if found.shape != (2, math.prod(shape)):
        raise InputError(
            f"{kind.__name__} gives {tuple(found.shape)} for z of {(2, latents)}; expected {(2, math.prod(shape))}, "
            f"data of shape {tuple(shape)} as flat rows: end it with nn.Flatten()"
        )
    return decoder


def build_decoder(settings: ModelSettings, shape: tuple[int, ...]) -> nn.Module:
    """The decoder that settings name, for data of `shape`.

    Raises:
        InputError: settings that it has not, or a shape that it does not fit.
    """
    name, latents, unit_norm = settings.decoder, settings.latents, settings.unit_norm
    if unit_norm and name not in ("linear", "convolutional"):
        raise InputError(
            f"unit-norm atoms were asked of decoder {settings.decoder_name}; only linear and convolutional ones have "
            "atoms: use one of those"
        )
    if settings.bias and name not in ("linear", "convolutional"):
        raise InputError(
            f"a bias was asked of decoder {settings.decoder_name}, and is of linear and convolutional ones: use one of "
            "those, or leave it out"
        )
    scale = settings.start_scale if isinstance(settings, VAESettings) else None
    if scale is not None and name != "linear":
        raise InputError(
            f"`start_scale={scale}` is of a linear dictionary, and the decoder is {settings.decoder_name}; leave it out"
        )
    for field in ("atom_size", "stride", "dimensions"):
        value = getattr(settings, field)
        if value is not None:
            check_whole(f"`{field}`", value, 1)
        if name != "convolutional" and value is not None:
            raise InputError(
                f"`{field}={value}` is of a convolutional dictionary, and the decoder is "
                f"{settings.decoder_name}; leave it out, or use `decoder=convolutional`"
            )
    if name == "convolutional":
        count = settings.dimensions or (len(shape) - 1 if len(shape) > 2 else len(shape))
        if count not in (len(shape), len(shape) - 1):
            raise InputError(
                f"`dimensions={count}` was given for data of shape {tuple(shape)}; expected {len(shape)}, or "
                f"{len(shape) - 1} where the first axis is of channels"
            )
        channels = count < len(shape)
        sides = shape[1:] if channels else shape
        width = min(ATOM_SIZE, *sides) if settings.atom_size is None else settings.atom_size
        stride = max(1, width // 4) if settings.stride is None else settings.stride
        return ConvolutionalDecoder(shape, latents, width, stride, channels, unit_norm, settings.bias)
    if isinstance(name, type):
        return _own(name, shape, latents)
    check_choice("decoder", name, DECODERS)
    if name == "linear":
        given = {} if scale is None else {"scale": scale}
        return LinearDecoder(math.prod(shape), latents, unit_norm, settings.bias, **given)
    if name == "mlp":
        return MLPDecoder(math.prod(shape), latents)
    return ConvDecoder(shape, latents)  # pyright: ignore[reportArgumentType]
