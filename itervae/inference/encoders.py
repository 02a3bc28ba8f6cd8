"""Encoders from x (B, D) to (B, outputs): the feed-forward part of amortized inference."""

import math

from einops.layers.torch import Rearrange
from torch import nn

from itervae.errors import InputError
from itervae.model.decoders import quarter

ENCODERS = ("linear", "mlp", "conv")


class _Residual(nn.Module):
    """x + f(x), two 3×3 convolutions at constant size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x):
        return x + self.layers(x)


def build_encoder(name: str, shape: tuple[int, ...], outputs: int, bias: bool = False) -> nn.Sequential:
    """The encoder of that name for data of `shape`; its last layer starts small, so that posteriors start at the prior.

    `linear`: one matrix, without bias, as published, but where `bias` asks for it: a log-scale that is linear in x
    could not be below that of the prior for every x. `mlp`: two hidden layers of 512. `conv`: two halvings with
    residual blocks of 32 and 64 channels, for images with sides that are multiples of 4.
    """
    size = math.prod(shape)
    if name == "linear":
        encoder = nn.Sequential(nn.Linear(size, outputs, bias=bias))
    elif name == "mlp":
        encoder = nn.Sequential(
            nn.Linear(size, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU(), nn.Linear(512, outputs)
        )
    elif name == "conv":
        height, width = quarter(shape)
        encoder = nn.Sequential(
            Rearrange("b (h w) -> b 1 h w", h=shape[0], w=shape[1]),
            nn.Conv2d(1, 32, 3, padding=1),
            _Residual(32),
            nn.Conv2d(32, 32, 4, stride=2, padding=1),
            _Residual(32),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            _Residual(64),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * height * width, outputs),
        )
    else:
        raise InputError(f"encoder is {name!r}; expected one of {', '.join(ENCODERS)}")
    last = encoder[-1]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=0.05 / math.sqrt(max(1.0, last.in_features / 256)))
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return encoder
