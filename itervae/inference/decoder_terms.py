"""What the energies of a linear decoder share for all data: the dictionary, its norms and its Gram matrix.

On a CPU they are kept per model, beside a copy of the numbers that they were made from, and used again where the model
still has exactly those: a stream of frames, or data that are inferred batch by batch, pay for one comparison. How a
parameter was changed (a step of training, `.data`, another tensor in its place) makes no difference. On a GPU, where a
comparison would wait for the device and a Gram matrix costs little, they are made anew.
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
        if self.scaled.requires_grad:
            return self.dictionary.mT @ self.scaled
        with torch.inference_mode(False), torch.no_grad():  # it may outlive the mode that it is first asked for in
            return self.dictionary.mT @ self.scaled

    @cached_property
    def curvature_bound(self) -> Tensor:
        """A number that no eigenvalue of ΦᵀΦ/σ² exceeds: the largest sum of a row of magnitudes."""
        return self.gram.abs().sum(1).amax()


_kept: "WeakKeyDictionary[GenerativeModel, dict[torch.dtype, DecoderTerms]]" = WeakKeyDictionary()


def decoder_terms(model: GenerativeModel, dtype: torch.dtype) -> DecoderTerms:
    """The terms of a model with a linear decoder and a Gaussian likelihood, as its parameters are now."""
    decoder, likelihood = model.linear_decoder, model.likelihood
    assert isinstance(likelihood, GaussianLikelihood)
    on_cpu = decoder.weight.device.type == "cpu"
    if not on_cpu or (torch.is_grad_enabled() and any(p.requires_grad for p in (decoder.weight, likelihood.variance))):
        return _terms(decoder.dictionary_in(dtype), likelihood.variance_in(dtype))
    # outside of inference mode, whose tensors could not be saved for a later gradient
    with torch.inference_mode(False), torch.no_grad():
        dictionary, variance = decoder.dictionary_in(dtype), likelihood.variance_in(dtype)
        kept = _kept.setdefault(model, {})
        made = kept.get(dtype)
        if made is None or not (torch.equal(made.dictionary, dictionary) and torch.equal(made.variance, variance)):
            kept[dtype] = _terms(dictionary.clone(), variance.clone())  # Φ may be the weight itself, which changes
        return kept[dtype]


def _terms(dictionary: Tensor, variance: Tensor) -> DecoderTerms:
    return DecoderTerms(dictionary, variance, dictionary / variance, dictionary.square().sum(0) / variance)
