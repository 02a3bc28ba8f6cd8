"""Encoders for a convolutional dictionary: values of each map at each of its places, from data of
any size."""

import math

import torch
from torch import Tensor, nn

from itervae.errors import InputError
from itervae.inference.engines.residual import CONVOLUTIONS, Residual
from itervae.model import ConvolutionalDecoder, GenerativeModel
from itervae.model.convolution import Convolution

HIDDEN = 64
"""Channels of the encoder `conv`."""


class Correlation(nn.Module):
    """Products of atoms W of its own with what each covers of a signal at each place of a
    `ConvolutionalDecoder`: Wᵀx + b, which is Φᵀx where W = Φ and b = 0.

    Args:
        outputs: number of atoms.
        decoder: with the size of atoms and the places.
        bias: whether there is a b (outputs,).
    """

    def __init__(self, outputs: int, decoder: ConvolutionalDecoder, bias: bool) -> None:
        super().__init__()
        self.stride, atom = decoder.stride, decoder.weight.shape[1:]
        bound = 1 / math.sqrt(math.prod(atom))
        self.weight = nn.Parameter(torch.empty(outputs, *atom).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs, *places) of x (B, C, *size)."""
        operator = Convolution(self.weight, tuple(x.shape[2:]), self.stride)
        found = operator.adjoint(x.flatten(1)).unflatten(1, (len(self.weight), *operator.places))
        return found if self.bias is None else found + self.bias.view(-1, *[1] * len(operator.places))


class PlaceEncoder(nn.Module):
    """An encoder that goes along with the places of a convolutional dictionary.

        linear   one convolution with the size and the stride of the atoms
        conv     one such with 64 channels, then residual blocks of 3 places' width, and a linear
                 layer of each place

    Its last layer starts small, so that posteriors start near the prior.

    Args:
        name: linear or conv.
        decoder: whose atoms, stride and channels it has.
        outputs: values that it gives at each place: one for each map and parameter.
        bias: whether `linear` has a bias.

    Raises:
        InputError: an encoder of data of one size.
    """

    def __init__(self, name: str, decoder: ConvolutionalDecoder, outputs: int, bias: bool) -> None:
        super().__init__()
        self.atom = tuple(decoder.weight.shape[1:])
        if name == "linear":
            last: nn.Module = Correlation(outputs, decoder, bias)
            self.layers = nn.Sequential(last)
        elif name == "conv":
            dimensions = len(decoder.sides)
            last = CONVOLUTIONS[dimensions](HIDDEN, outputs, 1)
            blocks = (Residual(HIDDEN, dimensions) for _ in range(2))
            self.layers = nn.Sequential(Correlation(HIDDEN, decoder, bias=True), *blocks, nn.SiLU(), last)
        else:
            raise InputError(
                f"encoder {name} is for data of one size, and a convolutional dictionary takes any; use linear or conv"
            )
        shrink(last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs, *places) of x (B, C, *size)."""
        return self.layers(x)

    def answer(self, model: GenerativeModel, x: Tensor) -> Tensor:
        """The parameters (B, P) that it gives of data (B, D) of a model.

        Raises:
            InputError: the model has another kind of dictionary.
        """
        decoder, found = model.decoder, f"a {type(model.decoder).__name__}"
        if isinstance(decoder, ConvolutionalDecoder):
            found = f"atoms of {tuple(decoder.weight.shape[1:])}"
        if not isinstance(decoder, ConvolutionalDecoder) or tuple(decoder.weight.shape[1:]) != self.atom:
            raise InputError(
                f"the encoder is for a convolutional dictionary with atoms of {self.atom}, and this model has {found}; "
                "train one on this model"
            )
        return self(x.reshape(len(x), decoder.weight.shape[1], *decoder.sides)).flatten(1)


def shrink(layer: nn.Module) -> None:
    """Let the last layer of an encoder start small."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    nn.init.normal_(weight, std=0.05 / math.sqrt(max(1.0, weight[0].numel() / 256)))
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)
