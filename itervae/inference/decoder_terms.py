"""What the energies of a linear decoder share for all data: the dictionary, its norms and its Gram matrix.

They are kept per model and version of its parameters, so that a stream of frames, or data that are inferred batch by
batch, do not pay for them again.
"""

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from itervae.model import GaussianLikelihood, GenerativeModel


@dataclass
class DecoderTerms:
    """Φ (D, K) and σ², in the precision of the data.

    `scaled` is Φ/σ² and `diagonal` c/σ² (K,), c_k = ‖φ_k‖².
    """

    dictionary: Tensor
    variance: Tensor
    scaled: Tensor
    diagonal: Tensor

    @cached_property
    def gram(self) -> Tensor:
        """ΦᵀΦ/σ² (K, K)."""
        return self.dictionary.mT @ self.scaled

    @cached_property
    def curvature_bound(self) -> Tensor:
        """A number that no eigenvalue of ΦᵀΦ/σ² exceeds: the largest sum of a row of magnitudes."""
        return self.gram.abs().sum(1).amax()


_kept: "WeakKeyDictionary[GenerativeModel, dict[torch.dtype, tuple[tuple, DecoderTerms]]]" = WeakKeyDictionary()


def decoder_terms(model: GenerativeModel, dtype: torch.dtype) -> DecoderTerms:
    """The terms of a model with a linear decoder and a Gaussian likelihood: those made before where no gradient goes
    back to them and the parameters are as they were, by torch's own count of changes (which `.data` goes round)."""
    parameters = [*model.decoder.parameters(), *model.likelihood.parameters(), *model.likelihood.buffers()]
    with_gradient = torch.is_grad_enabled() and any(value.requires_grad for value in parameters)
    if with_gradient or any(value.is_inference() for value in parameters):
        return _make(model, dtype)
    version = tuple((value.data_ptr(), value.dtype, value._version) for value in parameters)
    kept = _kept.setdefault(model, {})
    if dtype not in kept or kept[dtype][0] != version:
        with torch.no_grad():
            kept[dtype] = version, _make(model, dtype)
    return kept[dtype][1]


def _make(model: GenerativeModel, dtype: torch.dtype) -> DecoderTerms:
    assert isinstance(model.likelihood, GaussianLikelihood)
    variance, dictionary = model.likelihood.variance.to(dtype), model.dictionary.to(dtype)
    return DecoderTerms(dictionary, variance, dictionary / variance, dictionary.square().sum(0) / variance)
