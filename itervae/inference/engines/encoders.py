"""Encoders from x (B, D) to (B, outputs): the feed-forward part of amortized inference."""

import math

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from itervae.arguments import check_choice
from itervae.distributions import SparsityCost
from itervae.inference.engines.place_encoders import PlaceEncoder, shrink
from itervae.inference.engines.residual import Residual
from itervae.inference.settings import ENCODERS
from itervae.model import ConvolutionalDecoder, GenerativeModel
from itervae.model.decoders import quarter
from itervae.own import make


class Encoder(nn.Sequential):
    """The layers of an encoder, and the number of values D that they take of a datum."""

    size: int | None = None


def build_encoder(name: str | type[nn.Module], shape: tuple[int, ...], outputs: int, bias: bool = False) -> nn.Module:
    """The encoder of that name, or of that class, for data of `shape`; its last layer starts small,
    so that posteriors start near the prior.

        linear   one matrix, by default without bias, as published. Log-scales need one:
                 without it none could be below that of the prior for every x; and so does
                 sparse coding, as an autoencoder does, for units that are mostly silent
        mlp      two hidden layers of 512
        conv     two halvings with residual blocks of 32 and 64 channels, for images (H, W)
                 with sides that are multiples of 4

    Args:
        name: one of `ENCODERS`, or a class of modules, which is made as CLASS(shape, outputs).
        shape: of a datum.
        outputs: number of values that the encoder gives.
        bias: whether `linear` has a bias; the others always have.
    """
    if isinstance(name, type):
        return make(name, "(shape, outputs)", tuple(shape), outputs)
    check_choice("encoder", name, ENCODERS)
    size = math.prod(shape)
    if name == "linear":
        encoder = Encoder(nn.Linear(size, outputs, bias=bias))
    elif name == "mlp":
        encoder = Encoder(nn.Linear(size, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU(), nn.Linear(512, outputs))
    else:
        height, width = quarter(shape)
        encoder = Encoder(
            Rearrange("b (h w) -> b 1 h w", h=shape[0], w=shape[1]),
            nn.Conv2d(1, 32, 3, padding=1),
            Residual(32),
            nn.Conv2d(32, 32, 4, stride=2, padding=1),
            Residual(32),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            Residual(64),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * height * width, outputs),
        )
    encoder.size = size
    shrink(encoder[-1])
    return encoder


def encoder_for(name: str | type[nn.Module], model: GenerativeModel, shape: tuple[int, ...]) -> nn.Module:
    """The encoder of that name, or of that class, that gives the parameters of a model's posterior;
    of a convolutional dictionary one for data of any size (`PlaceEncoder`).

    Raises:
        InputError: an encoder that does not fit the model.
    """
    prior, decoder = model.prior(), model.decoder
    bias = prior.parts > 1 or isinstance(prior, SparsityCost)
    if isinstance(decoder, ConvolutionalDecoder) and not isinstance(name, type):
        check_choice("encoder", name, ENCODERS)
        encoder = PlaceEncoder(name, decoder, prior.parts * model.prior.maps, bias)
    else:
        encoder = build_encoder(name, shape, len(prior.u), bias)
    if name == "linear" and isinstance(prior, SparsityCost):
        last = list(encoder.modules())[-1]
        last._register_load_state_dict_pre_hook(_read_without_bias, with_module=True)  # public from torch 2.5 on
    return encoder


def _read_without_bias(layer: nn.Module, values: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Read a linear encoder of sparse coding of an earlier version, which had no bias: it is 0."""
    assert isinstance(layer.bias, Tensor)
    if f"{prefix}weight" in values:
        values.setdefault(f"{prefix}bias", torch.zeros_like(layer.bias))


def values_taken(encoder: nn.Module) -> int | None:
    """The number of values D that an encoder takes of a datum; None where that cannot be known
    before it is run."""
    if isinstance(encoder, Encoder):
        return encoder.size
    first = encoder[0] if isinstance(encoder, nn.Sequential) and len(encoder) else encoder
    return first.in_features if isinstance(first, nn.Linear) else None
