"""A sparse autoencoder written as SAELens has it, and its encoder as the start of an amortized
one."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itervae.arguments import check_kind
from itervae.errors import InputError
from itervae.files import write_arrays, write_json
from itervae.inference import Amortized, SemiAmortized
from itervae.model import GenerativeModel, SparsityPrior
from itervae.paths import check_path
from itervae.saes.encoder import Gated, Jump, SAEEncoder, TopK


@torch.no_grad()
def save_sae(model: GenerativeModel, engine: nn.Module, folder: str | Path) -> None:
    """Write a model and its encoder as a folder of SAELens: `cfg.json` and
    `sae_weights.safetensors`.

    An `amortized` engine with a linear encoder e(x) = Wx + w, such as `itervae train --freeze
    SAE_FOLDER --inference amortized` trains, is a sparse autoencoder with a ReLU: a = max(0, Φᵀ(x −
    b) + Wx + w − θ).

    Example:
        itervae.saes.save_sae(*itervae.load("runs/my-run"), "better_encoder")

    Args:
        model: sparse coding with a soft threshold, codes that are not negative, and a dense
            dictionary, for inputs as they are.
        engine: of `load_sae`, or amortized with a linear encoder.
        folder: to write, which may be there.

    Raises:
        InputError: another model or engine, or a folder that cannot be written.
    """
    check_kind("model", model, GenerativeModel, "a GenerativeModel, the first that load_sae gives")
    folder, prior = check_path(folder), model.prior
    fits = isinstance(prior, SparsityPrior) and not prior.signed and not prior.hard
    if not fits or "dense dictionary" not in model.capabilities:
        raise InputError(
            "this model is no sparse coding with a soft threshold, codes that are not negative and a dense "
            "dictionary; expected that: keep its run"
        )
    bias: Any = getattr(model.decoder, "bias", None)
    bias = torch.zeros_like(model.dictionary[:, 0]) if bias is None else bias
    kind, arrays, extra = _encoder(model, engine, bias)
    arrays["b_dec"] = bias
    config = {"d_in": model.size, "d_sae": model.latents, "dtype": "float32", "architecture": kind}
    config |= {"normalize_activations": "none", "apply_b_dec_to_input": False, "reshape_activations": "none"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); name another folder") from error
    arrays = {name: value.detach().float().cpu().contiguous().numpy() for name, value in arrays.items()}
    write_arrays(folder / "sae_weights.safetensors", arrays)
    write_json(folder / "cfg.json", config | extra | {"metadata": {"sae_lens_version": "6.0.0"}})


@torch.no_grad()
def start_as(engine: nn.Module, sae: SAEEncoder, model: GenerativeModel) -> None:
    """Set a linear encoder, of `amortized` or of `semi-amortized`, to that of a sparse autoencoder
    with a ReLU, whose codes it gives then; any other engine or rule is left as it is.

    Args:
        model: of the autoencoder, as `load_sae` gives it.
    """
    layer = _linear(engine.encoder if isinstance(engine, SemiAmortized) else engine)
    if layer is None or layer.bias is None or not isinstance(sae.rule, nn.ReLU):
        return
    atoms, weight = model.dictionary.mT, sae.norms[:, None] * sae.weight
    layer.weight.copy_(weight - atoms)
    shift = sae.norms * sae.bias - weight @ sae.centre + model.prior.threshold  # pyright: ignore[reportOperatorIssue]
    layer.bias.copy_(shift + atoms @ model.decoder.bias)  # pyright: ignore[reportOperatorIssue]


def _linear(engine: nn.Module) -> nn.Linear | None:
    """The one layer of the linear encoder of an amortized engine; None of any other."""
    encoder = engine.encoder if isinstance(engine, Amortized) else None
    layers = [*encoder] if isinstance(encoder, nn.Sequential) else [encoder]
    return layers[0] if len(layers) == 1 and isinstance(layers[0], nn.Linear) else None


def _encoder(model: GenerativeModel, engine: nn.Module, bias: Tensor) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """The architecture, the arrays but for the bias of the decoder, and what else its settings
    say; the encoder sees x itself."""
    atoms = model.dictionary.mT
    if isinstance(engine, SAEEncoder):
        shift = engine.bias - engine.weight @ engine.centre
        arrays, rule = {"W_dec": engine.norms[:, None] * atoms, "W_enc": engine.weight.mT}, engine.rule
        if isinstance(rule, Gated):
            arrays |= {"b_gate": shift, "r_mag": rule.gain.log(), "b_mag": rule.shift + rule.gain * shift}
            return "gated", arrays, {}
        arrays["b_enc"] = shift
        if isinstance(rule, Jump):
            return "jumprelu", arrays | {"threshold": rule.threshold.expand(model.latents)}, {}
        if isinstance(rule, TopK | nn.ReLU):
            return ("topk", arrays, {"k": rule.k}) if isinstance(rule, TopK) else ("standard", arrays, {})
        raise InputError(f"the rule of the encoder is {type(rule).__name__}, which SAELens has not; expected another")
    layer = _linear(engine)
    if layer is None:
        raise InputError(
            f"the engine is {type(engine).__name__} without a linear encoder; expected that of load_sae, or amortized "
            "with encoder linear: keep its run"
        )
    shift = -(atoms @ bias) - model.prior.threshold  # pyright: ignore[reportOperatorIssue]
    shift = shift if layer.bias is None else shift + layer.bias
    return "standard", {"W_dec": atoms, "W_enc": (atoms + layer.weight).mT, "b_enc": shift}, {}
