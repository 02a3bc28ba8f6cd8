"""Steps of the dictionary in closed form, from the codes of all data so far.

Given the codes, the exact free energy, and the energy of sparse coding, are quadratic in the
dictionary Φ of a linear decoder:

    E‖x − Φz‖² = E‖x‖² − 2 tr(Φ Bᵀ) + tr(Φ A Φᵀ),      A = E[z zᵀ],  B = E[x zᵀ]

with z zᵀ in its mean under the posterior: μμᵀ + diag v of independent latents, μμᵀ of a point
estimate, diag p of a one-hot. With a bias, x̂ = Φz + b, A and B are about the means of z and x, and
b is what these leave. A and B are running means over the updates, in which the older ones
fade as (1 − 1/n)^3 (Mairal, Bach, Ponce & Sapiro 2009, "Online dictionary learning for sparse
coding"). Φ = B A⁻¹ is the best dictionary for them; where atoms have unit norm, one round over the
atoms, each the best given the others. The prior rates of Poisson latents are at their best at r =
E[λ]. Atoms that no datum uses are replaced by what the worst explained data lack; if so said, those
too that hardly any datum uses but one: such an atom has learned that datum by heart, of which a
restart makes room for one that many data share.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from itervae.errors import InputError
from itervae.inference import Engine
from itervae.model import Dense, GenerativeModel, LinearDecoder, PoissonPrior
from itervae.training.choices import has_parameters
from itervae.training.distributed import Processes
from itervae.training.settings import RunSettings

FORGETTING = 3.0
"""Exponent of (1 − 1/n): half of what is remembered at update n is of the last sixth."""
RIDGE = 1e-5
"""By what part of the mean of diag A a step is held back, so that there is one."""
LEAST = 1e-6
"""Least mean of diag A that the ridge is a part of."""
UNUSED, RENEWED = 1e-3, 20
"""Activity, over the mean of all units, below which an atom is not used, and updates between
replacements."""
CLOSED_FORM, LEAST_CLOSED = 0.3, 500
"""Share of a run, and least number of updates, after which the gradient takes over."""
BLOCK = 32
"""Atoms between products with the whole of A."""


def has_closed_form(model: GenerativeModel) -> bool:
    """Whether the dictionary of a model has steps in closed form: a linear decoder under a Gaussian
    likelihood, that is learned from data of which every value is seen, and whose A fits
    (`Dense.fits`)."""
    learned = isinstance(model.decoder, LinearDecoder) and model.decoder.weight.requires_grad
    return model.exact and learned and not model.missing and fits(model)


def fits(model: GenerativeModel) -> bool:
    """Whether a dictionary has as few atoms as steps in closed form can take."""
    return not isinstance(model.decoder, LinearDecoder) or Dense(model.decoder.weight).fits


def choose_steps(settings: RunSettings, engine: Engine, model: GenerativeModel) -> str:
    """How the dictionary of a run is learned: as it is said or, where nothing is, by steps in
    closed form and then by the gradient, if the engine has no parameters and the exact free energy
    of its last step is the objective.

    Raises:
        InputError: steps in closed form of a model that has none.
    """
    options, possible = settings.training, has_closed_form(model)
    steps = options.dictionary_steps
    if steps is None:
        plain = options.gradient in (None, "envelope") and options.estimator in (None, "exact")
        last = (options.loss or engine.recipe.loss) == "final"
        steps = "both" if possible and plain and last and not has_parameters(engine) else "gradient"
    for name in ("dictionary_memory", "dictionary_momentum", "restart_atoms"):
        if steps == "gradient" and (value := getattr(options, name)) is not None:
            raise InputError(
                f"`{name}={value}` is for steps of the dictionary in closed form, and this run has none; leave it out"
            )
    if options.dictionary_steps not in (None, "gradient") and not fits(model):
        raise InputError(
            f"`dictionary_steps={options.dictionary_steps}` was given for {model.latents} atoms, which is too many for "
            "that; use `dictionary_steps=gradient`"
        )
    if options.dictionary_steps not in (None, "gradient") and not possible:
        raise InputError(
            f"`dictionary_steps={options.dictionary_steps}` needs a dictionary that is learned: a linear decoder under "
            "a Gaussian likelihood, without `freeze`; leave it out"
        )
    return steps


class DictionaryStep:
    """Steps of the dictionary of a model, and what they remember.

    Args:
        model: one that `has_closed_form`.
        share: of the run after which the gradient takes over.
        rates: whether the static prior is that of every datum, so that learned prior rates have a
            step too.
        processes: among which the data of an update are divided.
        memory: updates that are remembered at most, the older ones fading as (1 − 1/memory)^n.
        restart: atoms are replaced that add less to the data, the datum that uses each most left
            out, than this share of the median; by default those that no datum uses.
        momentum: share of the last change of the dictionary that every step goes beyond its best.
    """

    def __init__(
        self,
        model: GenerativeModel,
        share: float,
        rates: bool,
        processes: Processes,
        memory: float = math.inf,
        restart: float | None = None,
        momentum: float = 0.0,
    ) -> None:
        assert isinstance(model.decoder, LinearDecoder)
        self._most_kept, self._restart, self._momentum = 1 - 1 / memory, restart, momentum
        self._model, self._decoder, self._share, self._processes = model, model.decoder, share, processes
        prior = model.prior
        self._rates = prior.log_rate if rates and isinstance(prior, PoissonPrior) else None
        if self._rates is not None and not self._rates.requires_grad:
            self._rates = None
        weight = self._decoder.weight
        size, latents = weight.shape
        self.count = 0
        self._kept = {
            "second": weight.new_zeros(latents, latents),
            "cross": weight.new_zeros(size, latents),
            "activity": weight.new_zeros(latents),
            "data": weight.new_zeros(()),
        }
        self._largest, self._best = weight.new_zeros(latents), weight.detach().clone()
        if self._decoder.bias is not None:
            self._kept |= {"codes": weight.new_zeros(latents), "values": weight.new_zeros(size)}

    def parameters(self, progress: float) -> list[Tensor]:
        """What the steps set at this point of the run, and no gradient moves meanwhile."""
        if progress >= self._share and self.count >= LEAST_CLOSED:
            return []
        return [value for value in (self._decoder.weight, self._decoder.bias, self._rates) if value is not None]

    @torch.no_grad()
    def take(self, codes: Sequence[tuple[Tensor, Any]]) -> None:
        """Remember the data x (B, D) and the posteriors of an update, and set dictionary and prior
        rates to the best for all that is remembered."""
        found = {name: torch.zeros_like(value) for name, value in self._kept.items()}
        for x, posterior in codes:
            mean = posterior.mean
            if posterior.event_shape:
                found["second"].diagonal().add_(mean.sum(0))
            else:
                found["second"].addmm_(mean.mT, mean)
                found["second"].diagonal().add_(posterior.variance.sum(0))
            found["cross"].addmm_(x.mT.to(mean.dtype), mean)
            found["activity"].add_(mean.abs().sum(0))
            found["data"].add_(len(x))
            if "codes" in found:
                found["codes"].add_(mean.sum(0))
                found["values"].add_(x.sum(0))
        self.count += 1
        kept = min((1 - 1 / self.count) ** FORGETTING, self._most_kept)
        for name, value in self._kept.items():
            value.mul_(kept).add_(self._processes.total(found[name]))
        if self._restart is not None:
            self._largest.mul_(kept)
            for _, posterior in codes:  # of several processes those of the leading one, which chooses
                torch.maximum(self._largest, posterior.mean.square().amax(0), out=self._largest)
        if self.count % RENEWED == 0:
            self._replace(*codes[-1])
        self._set_dictionary()
        if self._momentum:
            self._go_beyond()
        if self._rates is not None:
            activity = self._kept["activity"] / self._kept["data"]
            self._rates.copy_(activity.clamp_min(torch.finfo(activity.dtype).tiny).log())

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, for the checkpoint."""
        return {"count": self.count, "largest": self._largest, "best": self._best, **self._kept}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.count = int(values["count"])
        for name, value in self._kept.items():
            value.copy_(values[name])
        self._largest.copy_(values.get("largest", self._largest))
        self._best.copy_(values.get("best", self._best))

    def _set_dictionary(self) -> None:
        weight, bias = self._decoder.weight, self._decoder.bias
        second, cross = self._kept["second"], self._kept["cross"]
        if bias is not None:
            codes, values = self._kept["codes"], self._kept["values"]
            second = second - torch.outer(codes, codes / self._kept["data"])
            cross = cross - torch.outer(values, codes / self._kept["data"])
        ridge = RIDGE * second.diagonal().mean().clamp_min(LEAST)  # codes may all be 0
        held = cross + ridge * weight
        matrix = second + ridge * torch.eye(len(second), dtype=second.dtype, device=second.device)
        if self._decoder.unit_norm:
            weight.copy_(unit_atoms(weight.mT.clone(), matrix, held.mT.contiguous()).mT)
        else:
            factor, _ = torch.linalg.cholesky_ex(matrix)  # whose check would wait for a GPU
            weight.copy_(torch.cholesky_solve(held.mT, factor).mT)
        if bias is not None:
            bias.copy_((values - weight @ codes) / self._kept["data"])

    def _go_beyond(self) -> None:
        """Go on in the direction of the last change of the best dictionary."""
        weight, best = self._decoder.weight, self._decoder.weight.detach().clone()
        weight.add_(best - self._best, alpha=self._momentum)
        if self._decoder.unit_norm:
            weight.div_(weight.norm(dim=0).clamp_min(torch.finfo(weight.dtype).tiny))
        self._best = best

    def _replace(self, x: Tensor, posterior: Any) -> None:
        """Put what the worst explained data lack in the place of atoms that are not used."""
        activity, weight = self._kept["activity"], self._decoder.weight
        atoms = self._processes.told(self._unused().nonzero()[:, 0].tolist())
        residual = x - self._model.decode(posterior.mean).to(x.dtype)
        worst = residual.square().sum(1).topk(min(len(atoms), len(x))).indices
        lacking = self._processes.told(residual[worst].mT.to(weight.dtype).cpu()).to(weight.device)
        atoms = atoms[: lacking.shape[1]]
        norm = weight.norm(dim=0).median()
        weight[:, atoms] = lacking * (norm / lacking.norm(dim=0).clamp_min(torch.finfo(weight.dtype).tiny))
        self._kept["second"][atoms] = 0
        self._kept["second"][:, atoms] = 0
        self._kept["cross"][:, atoms] = 0
        if "codes" in self._kept:
            self._kept["codes"][atoms] = 0
        activity[atoms] = activity.median()
        self._best.copy_(weight)

    def _unused(self) -> Tensor:
        """Which atoms are to be replaced (K,)."""
        activity = self._kept["activity"]
        unused = activity < UNUSED * activity.mean()
        if self._restart is None:
            return unused
        shared = (self._kept["second"].diagonal() - self._largest) * self._decoder.weight.square().sum(0)
        return unused | (shared < self._restart * shared.median())


def unit_atoms(atoms: Tensor, second: Tensor, cross: Tensor) -> Tensor:
    """One round over atoms (K, D): each the unit vector that is best given the others, φ_k ∝ φ_k +
    (B_k − ΦA_k)/A_kk; second (K, K), cross (K, D)."""
    for first in range(0, len(atoms), BLOCK):
        block = slice(first, first + BLOCK)
        own = second[block, block]
        rest = cross[block] - second[block] @ atoms
        for k in range(len(own)):
            moved = atoms[first + k] + rest[k] / own[k, k]
            change = moved / moved.norm().clamp_min(torch.finfo(moved.dtype).tiny) - atoms[first + k]
            atoms[first + k] += change
            rest -= own[k][:, None] * change
    return atoms
