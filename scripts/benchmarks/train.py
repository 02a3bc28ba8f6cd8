"""A full parameter update (inference, free energy, backward, clipping, Adamax) over the exact
amortized update of the same model: linear encoder and decoder, K = 512, 256 pixels, rates of the
posterior log-normal with mean 0.1 and σ 1.5. `eat, published sampler` draws by the plain published
algorithm with its own n_exp in place of ours. `plain` is a plain PyTorch program of the same loss,
model, clipping and optimizer. Then the other encoders and families, and each engine with its exact
objective, as `itervae train` has it. The learning rate is next to nothing, so that all rounds do
the same work. `over its products`: over the bare matrix products or convolutions that the update
needs, of the same shapes, there and back. The rows of `passes` are of what lies between the
products, in compiled code and in tensors.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from benchmarks import passes
from benchmarks.figures import Point, ratios_figure
from benchmarks.machine import Setup, achieved
from benchmarks.roofline import moved
from benchmarks.sampler import MEAN
from benchmarks.timing import Times, alternate, ratio, spread
from published_sampler import published_n_exp, published_sample
from torch import Tensor, nn
from torch.nn import functional

from itervae.data.source import RowSource
from itervae.distributions import RelaxedPoisson
from itervae.distributions.poisson import CLAMP
from itervae.inference import ENGINES, infer
from itervae.model import PoissonPrior, PoissonVAESettings
from itervae.model.settings import CategoricalVAESettings, GaussianVAESettings, LaplaceVAESettings, VAESettings
from itervae.training import RunSettings, TrainingSettings
from itervae.training.checkpoint import build
from itervae.training.choices import choose_gradient
from itervae.training.distributed import Processes
from itervae.training.tasks import StillTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, LATENTS, SIGMA, TEMPERATURE, LR = 16, 512, 1.5, 0.05, 1e-9
SIZE = SIDE**2
ENCODER = 0.8
"""Standard deviation of what a new linear encoder adds to log-rates, for data of unit variance."""
BATCHES = (1000, 200)
STEPS: dict[str, int | None] = {
    "amortized": None,
    "lca-unrolled": 20,
    "fista-unrolled": 20,
    "lista": 5,
    "recurrent": 5,
    "semi-amortized": 3,
}
LCA = "lca-unrolled, 20 steps, exact"
EXACT, OURS, PUBLISHED = "amortized, exact", "amortized, eat", "amortized, eat, published sampler"
PLAIN = "plain program"
ENCODERS = ("mlp", "conv")
FAMILIES = {"gaussian": GaussianVAESettings, "laplace": LaplaceVAESettings, "categorical": CategoricalVAESettings}
PRODUCTS = {EXACT: 5, LCA: 2 * 21 + 2}
"""Products of a batch with a matrix (D, K) in an update: with the encoder and with Φ, and back to
two matrices and the rates; two for each step and the start, and Φμ and back to Φ."""
KEPT = 7
"""Numbers that Adamax reads or writes a parameter: its gradient, and both ways it and two means."""


class Published(RelaxedPoisson):
    """Counts drawn by the published algorithm."""

    def at(self, temperature: float) -> "Published":
        return Published(self.log_rate, temperature, self.indicator)

    def rsample(
        self, sample_shape: Any = (), generator: torch.Generator | None = None, relaxation: str | None = None
    ) -> Tensor:
        log_rate = self.log_rate.expand(self._extended_shape(sample_shape))
        n_exp = published_n_exp(log_rate.detach().max().exp().item())
        return published_sample(log_rate, self.temperature, self.indicator, n_exp=n_exp, generator=generator)


class PublishedPrior(PoissonPrior):
    """A prior whose posteriors are drawn by the published algorithm."""

    def posterior(self, u: Tensor, temperature: float = 0.0) -> Published:
        return Published(u, temperature, self.indicator)


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    for batch in BATCHES[1:] if setup.quick else BATCHES:
        for sides, bare in (_one_pass(batch, setup.device), _iterative(batch, setup.device)):
            # apart, so that the slow ones do not cost the others their rounds
            times = alternate({**sides, **bare}, setup.rounds, setup.device)
            for name in sides if PLAIN in sides else list(sides)[2:]:
                yield _row(name, batch, sides[name], times, setup)
        yield from passes.run(batch, setup)


def _one_pass(batch: int, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Updates of encoders, and the products that each is held against."""
    sides: dict[str, Any] = {EXACT: updater("amortized", "exact", batch, device)}
    sides[PLAIN] = Plain(sides[EXACT])
    sides[OURS] = updater("amortized", "eat", batch, device)
    bare: dict[str, Any] = {f"products, {EXACT}": partial(products, batch, PRODUCTS[EXACT], device)}
    bare |= {f"products, {name}": bare[f"products, {EXACT}"] for name in (PLAIN, OURS)}
    for encoder in ENCODERS:
        sides[f"amortized, {encoder} encoder, exact"] = updater("amortized", "exact", batch, device, encoder=encoder)
    for family, kind in FAMILIES.items():
        sides[f"amortized, {family}, exact"] = updater("amortized", "exact", batch, device, model=kind(latents=LATENTS))
    for name in list(sides)[3:]:
        bare[f"products, {name}"] = Layers(sides[name])
    return sides, bare


def _iterative(batch: int, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Updates of the other engines, and with the published sampler."""
    sides = {name: updater("amortized", name.partition(", ")[2], batch, device) for name in (EXACT, OURS)}
    sides[PUBLISHED] = updater("amortized", "eat", batch, device, published=True)
    for name in list(STEPS)[1:]:
        sides[f"{name}, {STEPS[name]} steps, exact"] = updater(name, "exact", batch, device)
    return sides, {f"products, {LCA}": partial(products, batch, PRODUCTS[LCA], device)}


def _row(name: str, batch: int, side: Any, times: Times, setup: Setup) -> dict[str, Any]:
    seconds = times[name]
    return {
        "suite": "train",
        "what": name,
        "batch": batch,
        "ms per update": spread(seconds, 1e3),
        "data/s": batch / spread(seconds)["median"],
        f"over {EXACT}": ratio(times, name, EXACT),
        f"over {OURS}": ratio(times, name, OURS),
        "n_exp": side.n_exp() if name == PUBLISHED else None,
        **_over_products(name, times),
        **(_held_against_the_device(name, batch, side, times, setup) if name in PRODUCTS else {}),
        "rounds": len(seconds),
    }


def products(batch: int, count: int, device: str) -> None:
    """As many products of a batch with a matrix (D, K), there and back."""
    rows, matrix = torch.ones(batch, SIZE, device=device), torch.ones(SIZE, LATENTS, device=device)
    for done in range(count):
        rows = rows @ (matrix if done % 2 == 0 else matrix.mT)


class Layers:
    """The linear and convolutional layers of an amortized update alone, there and back, and the
    products with Φ."""

    def __init__(self, update: "Updater") -> None:
        x = update.task.batch(0).x
        self._layers: list[tuple[nn.Module, Tensor]] = []
        hooks = [
            layer.register_forward_pre_hook(lambda layer, given: self._layers.append((layer, given[0].detach())))
            for layer in update.task.engine.modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        ]
        infer(update.model, update.task.engine, x)
        for hook in hooks:
            hook.remove()
        self._layers = [(layer, given.requires_grad_(index > 0)) for index, (layer, given) in enumerate(self._layers)]
        self._phi, self._z, self._x = update.model.dictionary.detach(), torch.ones(len(x), LATENTS, device=x.device), x

    def __call__(self) -> None:
        for layer, given in self._layers:
            out = layer(given)
            wanted = [value for value in (given, *layer.parameters()) if value.requires_grad]
            torch.autograd.grad(out, wanted, out.detach())
        residual = self._z @ self._phi.mT
        torch.mm(residual, self._phi)
        torch.mm(residual.mT, self._z)


class Plain:
    """The exact update of the linear P-VAE, as a plain program writes it."""

    def __init__(self, update: "Updater") -> None:
        model = update.model
        self._encoder = next(update.task.engine.parameters()).detach().clone()
        self._phi, self._log_rate = model.dictionary.detach().clone(), model.prior.log_rate.detach().clone()
        self._parameters = [value.requires_grad_() for value in (self._encoder, self._phi, self._log_rate)]
        self._optimizer = torch.optim.Adamax(self._parameters, lr=LR)
        self._update, self._beta, self._variance = update, model.beta.item(), model.likelihood.variance.item()

    def __call__(self) -> None:
        update = self._update
        x = update.task.batch(update.updates).x
        log_delta = functional.linear(x, self._encoder)
        log_rate = self._log_rate + log_delta
        excess = (log_rate - CLAMP).clamp_min(0)
        log_rate = log_rate.clamp_max(CLAMP) + excess.tanh()
        rate = log_rate.exp()
        misfit = (x - rate @ self._phi.mT).square().sum(1) + rate @ self._phi.square().sum(0)
        kl = (self._log_rate.exp() - rate + rate * (log_rate - self._log_rate)).sum(1)
        loss = (misfit / (2 * self._variance) + self._beta * kl).mean()
        self._optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, update.options.clip)
        if not torch.isfinite(loss + norm):
            raise RuntimeError("the free energy or its gradient is not finite")
        self._optimizer.step()
        self.loss = loss


def _over_products(name: str, times: Times) -> dict[str, object]:
    bare = f"products, {name}"
    return {"over its products": ratio(times, name, bare)} if bare in times else {}


def _held_against_the_device(name: str, batch: int, update: "Updater", times: Times, setup: Setup) -> dict[str, object]:
    """An update over its bare products, and over the least that the device could take."""
    rows = batch * moved("kernels", LATENTS, SIZE, 20) if name == LCA else 4.0 * batch * (SIZE + 2 * LATENTS)
    least = rows + 4.0 * KEPT * sum(value.numel() for value in update.parameters)
    operations = 2.0 * PRODUCTS[name] * batch * SIZE * LATENTS
    return achieved(times[name], least, operations, setup)


def updater(
    name: str,
    estimator: str,
    batch: int,
    device: str,
    published: bool = False,
    encoder: str = "linear",
    model: VAESettings | None = None,
) -> "Updater":
    """An update of a new model, its prior rates set."""
    options = TrainingSettings(batch_size=batch, estimator=estimator, lr=LR, device=device, dictionary_steps="gradient")
    given = {"encoder": encoder} if STEPS[name] is None else {"steps": STEPS[name]}
    model = PoissonVAESettings(latents=LATENTS) if model is None else model
    return Updater(RunSettings(name, model=model, engine=ENGINES[name].Settings(**given), training=options), published)


class Updater:
    """Called, does what the loop of `itervae.training.trainer` does in an update, logging aside."""

    def __init__(self, settings: RunSettings, published: bool) -> None:
        device, self.options = settings.training.device, settings.training
        model, engine = build(settings, (SIDE, SIDE))
        generator = torch.Generator().manual_seed(0)
        if published:
            model.prior = PublishedPrior(LATENTS)
        if isinstance(model.prior, PoissonPrior):
            own = (SIGMA**2 - ENCODER**2) ** 0.5 * torch.randn(LATENTS, generator=generator)
            model.prior.log_rate.data.copy_(own + torch.tensor(MEAN).log() - SIGMA**2 / 2)
        x = torch.randn(4 * self.options.batch_size, SIZE, generator=generator)
        source = RowSource("random", (SIDE, SIDE), x, x[:10], 0, device=device)
        self.model, engine = model.to(device), engine.to(device)
        gradient = choose_gradient(settings, engine, model)
        self.task = StillTask(settings, self.model, engine, source, gradient, Processes())
        self.parameters = [p for module in (model, engine) for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adamax(self.parameters, lr=LR)
        self.generator, self.updates = torch.Generator(device).manual_seed(0), 0

    def __call__(self) -> None:
        step = self.task.step(self.task.batch(self.updates), TEMPERATURE, self.generator)
        self.optimizer.zero_grad()
        step.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip)
        if not torch.isfinite(step.loss + norm):
            raise RuntimeError("the free energy or its gradient is not finite")
        self.optimizer.step()
        self.updates += 1

    def n_exp(self) -> int:
        """Of the published rule, for a batch."""
        step = self.task.step(self.task.batch(0), TEMPERATURE, self.generator)
        return published_n_exp(step.posterior.mean.max().item())


def figure(rows: list[dict[str, Any]]) -> "Figure":
    panels: dict[str, list[Point]] = {}
    for row in rows:
        if row["what"] != EXACT and f"over {EXACT}" in row:
            points = panels.setdefault(f"a parameter update, batch {row['batch']}", [])
            points.append(Point(row["what"].replace(", eat, ", ",\neat, "), "", row[f"over {EXACT}"]))
    return ratios_figure(panels, "time over the exact amortized update")
