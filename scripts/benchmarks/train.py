"""A full parameter update (inference, free energy, backward, clipping, Adamax) over the exact
amortized update of the same model: linear encoder and decoder, K = 512, 256 pixels, rates of the
posterior log-normal with mean 0.1 and σ 1.5. `eat, published sampler` draws by the plain published
algorithm with its own n_exp in place of ours. Then each engine with its exact objective, as
`itervae train` has it. The learning rate is next to nothing, so that all rounds do the same work.
`over its products`: over as many bare matrix products of the same shapes as the update needs.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from benchmarks.figures import Point, ratios_figure
from benchmarks.machine import Setup, achieved
from benchmarks.roofline import moved
from benchmarks.sampler import MEAN
from benchmarks.timing import Times, alternate, ratio, spread
from published_sampler import published_n_exp, published_sample
from torch import Tensor

from itervae.data.source import RowSource
from itervae.distributions import RelaxedPoisson
from itervae.inference import ENGINES
from itervae.model import PoissonPrior, PoissonVAESettings
from itervae.training import RunSettings, TrainingSettings
from itervae.training.checkpoint import build
from itervae.training.choices import choose_gradient
from itervae.training.distributed import Processes
from itervae.training.tasks import StillTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE, LATENTS, SIGMA, TEMPERATURE, LR = 256, 512, 1.5, 0.05, 1e-9
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
        sides = {EXACT: updater("amortized", "exact", batch, setup.device)}
        sides[OURS] = updater("amortized", "eat", batch, setup.device)
        sides[PUBLISHED] = updater("amortized", "eat", batch, setup.device, published=True)
        for name in list(STEPS)[1:]:
            sides[f"{name}, {STEPS[name]} steps, exact"] = updater(name, "exact", batch, setup.device)
        bare = {f"products, {name}": partial(products, batch, count, setup.device) for name, count in PRODUCTS.items()}
        times = alternate({**sides, **bare}, setup.rounds, setup.device)
        for name, seconds in ((name, times[name]) for name in sides):
            yield {
                "suite": "train",
                "what": name,
                "batch": batch,
                "ms per update": spread(seconds, 1e3),
                "data/s": batch / spread(seconds)["median"],
                f"over {EXACT}": ratio(times, name, EXACT),
                f"over {OURS}": ratio(times, name, OURS),
                "n_exp": sides[name].n_exp() if name == PUBLISHED else None,
                **(_held_against_the_device(name, batch, sides[name], times, setup) if name in PRODUCTS else {}),
                "rounds": len(seconds),
            }


def products(batch: int, count: int, device: str) -> None:
    """As many products of a batch with a matrix (D, K), there and back."""
    rows, matrix = torch.ones(batch, SIZE, device=device), torch.ones(SIZE, LATENTS, device=device)
    for done in range(count):
        rows = rows @ (matrix if done % 2 == 0 else matrix.mT)


def _held_against_the_device(name: str, batch: int, update: "Updater", times: Times, setup: Setup) -> dict[str, object]:
    """An update over its bare products, and over the least that the device could take."""
    rows = batch * moved("kernels", LATENTS, SIZE, 20) if name == LCA else 4.0 * batch * (SIZE + 2 * LATENTS)
    least = rows + 4.0 * KEPT * sum(value.numel() for value in update.parameters)
    operations = 2.0 * PRODUCTS[name] * batch * SIZE * LATENTS
    own = {"over its products": ratio(times, name, f"products, {name}")}
    return own | achieved(times[name], least, operations, setup)


def updater(name: str, estimator: str, batch: int, device: str, published: bool = False) -> "Updater":
    """An update of a new model, its prior rates set."""
    options = TrainingSettings(batch_size=batch, estimator=estimator, lr=LR, device=device)
    steps = STEPS[name]
    engine = ENGINES[name].Settings(**({} if steps is None else {"steps": steps}))
    return Updater(
        RunSettings(name, model=PoissonVAESettings(latents=LATENTS), engine=engine, training=options), published
    )


class Updater:
    """Called, does what the loop of `itervae.training.trainer` does in an update, logging aside."""

    def __init__(self, settings: RunSettings, published: bool) -> None:
        device, self.options = settings.training.device, settings.training
        model, engine = build(settings, (SIZE,))
        generator = torch.Generator().manual_seed(0)
        if published:
            model.prior = PublishedPrior(LATENTS)
        with torch.no_grad():
            own = (SIGMA**2 - ENCODER**2) ** 0.5 * torch.randn(LATENTS, generator=generator)
            model.prior.log_rate.copy_(own + torch.tensor(MEAN).log() - SIGMA**2 / 2)
        x = torch.randn(4 * self.options.batch_size, SIZE, generator=generator)
        source = RowSource("random", (SIZE,), x, x[:10], 0, device=device)
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
        if row["what"] != EXACT:
            points = panels.setdefault(f"a parameter update, batch {row['batch']}", [])
            points.append(Point(row["what"].replace(", eat, ", ",\neat, "), "", row[f"over {EXACT}"]))
    return ratios_figure(panels, "time over the exact amortized update")
