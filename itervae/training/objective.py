"""The number that training minimizes, from what inference has found.

    final      F of the last step
    steps      the mean of F over all steps, so that every one of them is taught (Marino, Yue &
               Mandt 2018); with a start that is learned, over that too
    sequence   the same, the prior of a step being the posterior of the one before (Vafaii, Galor &
               Yates 2025)

With `--kl-rate posterior` the KL of each latent in a sequence is multiplied by λ/r, the rate of its
posterior over that of its prior: λ(1 − δ + δ log δ), δ = λ/r, in place of r(1 − δ + δ log δ). That
is no KL, and what is minimized no free energy; but the published code of the iterative P-VAE
trains on it, and its figures by β are those of this weight.

With `--target optimal-rates` the distance to the best posterior q* takes the place of F: KL(q* ‖
q), nats, which sees nothing of the data but their best posterior. Its least value is at q* too, but
it is another objective: with a linear decoder F(q) − F* = ‖Φ(λ − λ*)‖²/2σ² + β·KL(q ‖ q*), which
weighs the directions of λ by the dictionary as well.
"""

import torch
from torch import Tensor

from itervae.distributions import Family, total_kl, unit_kl
from itervae.inference import Engine, Inference, Optimal, infer
from itervae.model import FreeEnergy, GenerativeModel
from itervae.training.options import TrainingSettings


def objective(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    inference: Inference,
    options: TrainingSettings,
    temperature: float,
    generator: torch.Generator,
    given: Family | None = None,
) -> tuple[Tensor, FreeEnergy]:
    """The number to minimize, nats per datum, and the free energy of the last step (B,).

    Every loss but `final` needs `inference.trace["u"]`, with its gradient. `given` is the prior of
    each datum (B, K) where it is not the static one.
    """
    batch, loss = len(x), options.loss or engine.recipe.loss
    u, prior = inference.state.u, None
    if loss != "final":
        path = inference.trace["u"]
        u = path[0 if engine.recipe.learned_start and loss == "steps" else 1 :].flatten(0, 1)
        if loss == "sequence":
            prior = model.posterior(path[:-1].flatten(0, 1))
    repeats = len(u) // batch
    if prior is None and given is not None:
        prior = given if repeats == 1 else given.like(given.u.repeat(repeats, 1))
    posterior: Family = inference.posterior if loss == "final" else model.posterior(u)
    found = model.free_energy(
        x if repeats == 1 else x.repeat(repeats, 1),
        posterior.at(temperature),
        prior,
        estimator=options.estimator_at(temperature),
        samples=options.used("samples"),
        generator=generator,
    )
    last = found
    if repeats > 1:
        last = FreeEnergy(found.reconstruction[-batch:], found.kl[-batch:], found.total[-batch:])
    if options.kl_rate == "posterior":
        assert prior is not None  # of a sequence
        weighed = ((posterior.u - prior.u).exp() * unit_kl(posterior, prior)).sum(-1)
        return (found.reconstruction + model.beta * weighed).mean(), last
    if options.target == "free-energy":
        return found.total.mean(), last
    best = infer(model, Optimal(), x, prior=given).posterior
    best = best.like(best.u.to(u.dtype).repeat(repeats, 1))
    return total_kl(best, posterior).mean(), last
