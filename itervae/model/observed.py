"""The observation model p(x | z): what a decoder and a likelihood say of data."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from itervae import devices
from itervae.errors import InputError
from itervae.model.convolution import ConvolutionalDecoder
from itervae.model.likelihood import GaussianLikelihood, Likelihood
from itervae.model.observation import as_precision
from itervae.model.operators import Dense, LinearOperator, OperatorDecoder
from itervae.model.prior import Prior


class ObservationModel(nn.Module):
    """p(x | z) of a decoder and a likelihood, for data of a shape: their dictionary, their units,
    and which of their values are seen. `GenerativeModel` adds p(z)."""

    prior: Prior
    decoder: nn.Module
    likelihood: Likelihood
    beta: Tensor
    shape: tuple[int, ...]
    missing: bool = False
    """Whether NaN in data stands for a value that was not seen; else it is refused."""

    @property
    def size(self) -> int:
        """D."""
        return math.prod(self.shape)

    def signal(self, x: Tensor) -> Tensor:
        """Data (..., D), such as `decode` gives, in their natural shape (..., *shape)."""
        return x.reshape(*x.shape[:-1], *self.shape)

    @property
    def convolutional(self) -> bool:
        """Whether atoms may lie anywhere on data, which may be of any size (`at`)."""
        return isinstance(self.decoder, ConvolutionalDecoder)

    @property
    def atom_size(self) -> int | None:
        """The largest side of the atoms of a convolutional dictionary; None of another."""
        return max(self.decoder.weight.shape[2:]) if isinstance(self.decoder, ConvolutionalDecoder) else None

    @property
    def places(self) -> tuple[int, ...]:
        """Places of a map of a convolutional dictionary, along each dimension; () of any other
        model."""
        return self.decoder.operator().places if isinstance(self.decoder, ConvolutionalDecoder) else ()

    def operator(self, dtype: torch.dtype | None = None) -> LinearOperator:
        """Φ of a linear decoder, as its parameters are now, computed in a precision, or in their
        own.

        Raises:
            InputError: the decoder is not linear, or its operator not of D × K.
        """
        if not isinstance(self.decoder, OperatorDecoder):
            raise InputError(
                f"this model has a {type(self.decoder).__name__}, which has no dictionary; expected a linear decoder"
            )
        operator = self.decoder.operator(dtype)
        found, expected = (operator.size, operator.latents), (self.size, self.prior.latents)
        if found != expected:
            remedy = "transpose it" if found == expected[::-1] else "make it of that shape"
            raise InputError(f"the dictionary has shape {found}; expected {expected}, one atom a column: {remedy}")
        return operator

    def observed(
        self, x: Tensor, precision: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, LinearOperator]:
        """The data and Φ of a linear decoder x̂ = Φz + b in units in which all values have the same
        variance σ²: √w·(x − b) (B, D) and diag(√w)Φ, w the precision."""
        x, operator = self.standard(x), self.standard_operator(dtype)
        if precision is None:
            return x, operator
        root = precision.to(x.dtype).sqrt()
        return root * x, operator.weighted(root)

    def standard(self, x: Tensor) -> Tensor:
        """x − b (B, D), in the precision of x, of a linear decoder x̂ = Φz + b; over the σ of each
        value where they differ."""
        assert isinstance(self.decoder, OperatorDecoder)
        offset, root = self.decoder.offset(x.dtype), self._root(x.dtype)
        x = x if offset is None else x - offset
        return x if root is None else root * x

    def standard_operator(self, dtype: torch.dtype | None = None) -> LinearOperator:
        """Φ of a linear decoder; its rows over the σ of each value where they differ."""
        operator = self.operator(dtype)
        root = self._root(dtype or self.beta.dtype)
        return operator if root is None else operator.weighted(root)

    def _root(self, dtype: torch.dtype) -> Tensor | None:
        return self.likelihood.root(dtype) if isinstance(self.likelihood, GaussianLikelihood) else None

    def seen(self, x: Tensor, precision: Any = None) -> tuple[Tensor, Tensor | None]:
        """The data (B, D) with values that are not seen at the bias of a linear decoder, or at 0;
        and the precision of each, (D,) or (B, D), None where it is 1 everywhere.

        Values are not seen where their precision is 0 and, if the model is told so (`missing`),
        where they are NaN.
        """
        precision = as_precision(precision, x)
        if self.missing and not (devices.on_cpu(x) and not x.isnan().any()):
            known = ~x.isnan()
            precision = known.to(x.dtype) if precision is None else precision.where(known, 0)
        if precision is None:
            return x, None
        offset = self.decoder.offset(x.dtype) if isinstance(self.decoder, OperatorDecoder) else None
        return torch.where(precision > 0, x, 0 if offset is None else offset.detach()), precision

    @property
    def dictionary(self) -> Tensor:
        """Φ (D, K) of a dense linear decoder; InputError for another decoder."""
        operator = self.operator()
        if not isinstance(operator, Dense):
            raise InputError(
                f"this model has a {type(self.decoder).__name__}, whose operator is no matrix; expected a LinearDecoder"
            )
        return operator.dictionary

    @property
    def atoms(self) -> tuple[Tensor, tuple[int, ...]] | None:
        """Atoms as columns (d, K), and the shape of each: those of a dictionary, or of a
        convolutional one; None where there are none."""
        if isinstance(self.decoder, ConvolutionalDecoder):
            weight = self.decoder.operator().atoms
            return weight.flatten(1).mT, tuple(weight.shape[1 if weight.shape[1] > 1 else 2 :])
        dense = isinstance(self.decoder, OperatorDecoder) and issubclass(self.decoder.kind, Dense)
        return (self.dictionary, self.shape) if dense else None
