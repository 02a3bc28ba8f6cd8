"""The folders of the libraries that train sparse autoencoders, each read as the same parts.

SAELens (`cfg.json`, `sae_weights.safetensors`), dictionary_learning (`config.json`, `ae.pt`),
sparsify (`cfg.json`, `sae.safetensors`) and Gemma Scope (`params.npz`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from itervae.errors import InputError
from itervae.saes.encoder import Gated, GroupMax, Jump, TopK
from itervae.saes.folders import KINDS, weights_in
from itervae.saes.reading import Config, Weights, read_config, read_weights

NORMALIZATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
"""What SAELens says was done to inputs before the encoder saw them, as far as it is done here."""


@dataclass(frozen=True)
class Parts:
    """A sparse autoencoder x̂ = Σ_k a_k w_k + b, a = rule(W(x − c) + e).

    Attributes:
        kind: whose format it is, and the architecture, in words.
        atoms: w (K, D), of any norm.
        bias: b (D,).
        weight: W (K, D).
        encoder_bias: e (K,).
        centred: whether c is b; otherwise it is 0.
        rule: from (B, K) to codes (B, K).
        normalization: what is done to x before, one of `NORMALIZATIONS`.
    """

    kind: str
    atoms: Tensor
    bias: Tensor
    weight: Tensor
    encoder_bias: Tensor
    centred: bool
    rule: nn.Module
    normalization: str = "none"


def read_parts(folder: Path) -> Parts:
    """The parts of the sparse autoencoder in a folder.

    Raises:
        InputError: none there, a damaged file, arrays of shapes that do not fit, or an architecture
            or a normalization that is unknown here.
    """
    path = weights_in(folder)
    if path is None:
        raise InputError(f"{folder} holds none of {', '.join(KINDS)}; expected the folder of a sparse autoencoder")
    return READERS[path.name](folder, read_weights(path))


def _unknown(config: Config, name: str, known: str) -> InputError:
    return InputError(
        f"{name} of {config.path} is {config.get(name)!r}, which is not read here; expected {known}: export it as such"
    )


def _saelens(folder: Path, arrays: Weights) -> Parts:
    config = read_config(folder / "cfg.json")
    kind = config.get("architecture", "standard")
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    atoms = arrays.take("W_dec", -1, -1)
    latents, size = atoms.shape
    weight, bias = arrays.take("W_enc", size, latents).mT, arrays.take("b_dec", size)
    if "scaling_factor" in arrays and not torch.allclose(scale := arrays["scaling_factor"], torch.ones_like(scale)):
        raise InputError(
            f"{arrays.path} has a scaling_factor that is not 1, which is not read here; expected none: fold it into "
            "W_dec"
        )
    if kind == "standard" and activation == "topk":  # as it was called before version 6
        kind, config = "topk", Config(config.path, config | (config.get("activation_fn_kwargs") or {}))
    elif activation != "relu" and kind in ("standard", "jumprelu", "gated"):
        raise _unknown(config, "activation_fn" if "activation_fn" in config else "activation_fn_str", "relu or topk")
    if kind == "gated":
        shift, gain = arrays.take("b_gate", latents), arrays.take("r_mag", latents).exp()
        rule = Gated(gain, arrays.take("b_mag", latents) - gain * shift)
    else:
        shift = arrays.take("b_enc", latents)
        if kind == "standard":
            rule = nn.ReLU()
        elif kind == "topk":
            rule = TopK(config.whole("k", latents))
            if config.get("rescale_acts_by_decoder_norm"):  # the largest of those for atoms of unit norm
                norms = atoms.norm(dim=1, keepdim=True)
                atoms, weight, shift = atoms / norms, norms * weight, norms[:, 0] * shift
        elif kind == "jumprelu":
            old = "log_threshold" in arrays and "threshold" not in arrays
            rule = Jump(arrays.take("log_threshold", latents).exp() if old else arrays.take("threshold", latents))
        else:
            raise _unknown(config, "architecture", "standard, topk, jumprelu or gated (BatchTopK is saved as jumprelu)")
    normalization = config.get("normalize_activations") or "none"
    if normalization is True:  # of old versions
        normalization = "expected_average_only_in"
    if normalization not in NORMALIZATIONS:
        raise _unknown(config, "normalize_activations", ", ".join(NORMALIZATIONS))
    centred = bool(config.get("apply_b_dec_to_input", True))
    return Parts(f"SAELens, {kind}", atoms, bias, weight, shift, centred, rule, normalization)


def _dictionary_learning(folder: Path, arrays: Weights) -> Parts:
    config = read_config(folder / "config.json").part("trainer")
    kind = config.get("dict_class")
    if kind in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        atoms = arrays.take("W_dec", -1, -1)
        latents, size = atoms.shape
        weight, shift = arrays.take("W_enc", size, latents).mT, arrays.take("b_enc", latents)
        bias = arrays.take("b_dec", size)
    elif kind in ("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "AutoEncoderTopK", "BatchTopKSAE"):
        atoms = arrays.take("decoder.weight", -1, -1).mT
        latents, size = atoms.shape
        weight = arrays.take("encoder.weight", latents, size)
        shift = arrays.take("gate_bias" if kind == "GatedAutoEncoder" else "encoder.bias", latents)
        bias = arrays.take("bias or b_dec or decoder_bias or decoder.bias", size)
    else:
        raise _unknown(config, "dict_class", "AutoEncoder, GatedAutoEncoder, AutoEncoderTopK, BatchTopKSAE or the like")
    if kind == "GatedAutoEncoder":
        gain = arrays.take("r_mag", latents).exp()
        rule = Gated(gain, arrays.take("mag_bias", latents) - gain * shift)
    elif kind == "AutoEncoderTopK":
        rule = TopK(config.whole("k", latents))
    elif kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        rule = Jump(arrays.take("threshold"))
    else:
        rule = Jump(arrays.take("threshold", latents)) if kind == "JumpReluAutoEncoder" else nn.ReLU()
    centred = kind not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    return Parts(f"dictionary_learning, {kind}", atoms, bias, weight, shift, centred, rule)


def _sparsify(folder: Path, arrays: Weights) -> Parts:
    config = read_config(folder / "cfg.json")
    for name in ("transcode", "skip_connection", "signed"):
        if config.get(name):
            raise _unknown(config, name, "false")
    atoms = arrays.take("W_dec or decoder.weight", -1, -1)
    latents, size = atoms.shape
    activation, k = config.get("activation", "topk"), config.whole("k", latents)
    if activation not in ("topk", "groupmax") or (activation == "groupmax" and latents % k):
        raise _unknown(config, "activation", f"topk, or groupmax of groups of equal size among {latents}")
    return Parts(
        f"sparsify, {activation}",
        atoms,
        arrays.take("b_dec", size),
        arrays.take("encoder.weight", latents, size),
        arrays.take("encoder.bias", latents),
        True,
        TopK(k) if activation == "topk" else GroupMax(k),
    )


def _gemma_scope(folder: Path, arrays: Weights) -> Parts:
    atoms = arrays.take("W_dec or w_dec", -1, -1)
    latents, size = atoms.shape
    return Parts(
        "Gemma Scope, jumprelu",
        atoms,
        arrays.take("b_dec", size),
        arrays.take("W_enc or w_enc", size, latents).mT,
        arrays.take("b_enc", latents),
        False,
        Jump(arrays.take("threshold", latents)),
    )


READERS: dict[str, Callable[[Path, Weights], Parts]] = dict(
    zip(KINDS, (_saelens, _dictionary_learning, _sparsify, _gemma_scope), strict=True)
)
