"""The experiments that `scripts/reproduce` runs: what is trained and measured, at two scales, and
the published figures.

Vafaii, Galor & Yates (2024), "Poisson variational autoencoder": tables of gradients, of active
units, of classification by nearest neighbours, and the figure of dictionaries. A run is named by
data, family, encoder, length, batch and seed, so that scales share it; `scripts/reproduce` refuses
one that was made with other options.
"""

from collections.abc import Callable
from dataclasses import dataclass

SHORT, LONG = "--quick", "--full"
FAMILIES = {
    "poisson": "--family poisson",
    "gaussian": "--family gaussian",
    "laplace": "--family laplace",
    "categorical": "--family categorical",
    "gaussian-relu": "--family gaussian --activation relu",
    "gaussian-exp": "--family gaussian --activation exp",
}
GRADIENTS = {
    "poisson": ("exact", "eat", "eat-then-straight-through", "straight-through"),
    "gaussian": ("exact", "pathwise"),
}
"""Estimators by family. The published straight-through is the one that follows EAT, which has its
figures; there are published ones of a categorical family too, from code that is not released."""
LINEAR = "--inference amortized --decoder linear --latents 512 --beta-ramp 0.5"
"""The published model of patches; K = 512, Adamax, the KL weighted up over the first half."""
PATCHES = 107_000
"""Training patches as published: 3000 epochs are 321,000 batches of 1000."""
LR = {"linear": 0.005, "conv": 0.002}
"""Learning rates by encoder: the published one, and a smaller one, since at .005 conv encoders went
astray here."""


@dataclass(frozen=True)
class Run:
    """One run: its name, the options of `itervae train`, and those of `itervae evaluate`. `splits`:
    the splits that are measured, the test set for the last report alone."""

    name: str
    train: str
    evaluate: str
    splits: tuple[str, ...] = ("validation",)


@dataclass(frozen=True)
class Experiment:
    """An experiment: what it is, and its runs at a scale with the options of the photographs."""

    title: str
    runs: Callable[[str, str], list[Run]]


def _linear(name: str, data: str, encoder: str, options: str, updates: int, batch: int, seed: int) -> Run:
    """A model of patches or digits with a linear decoder."""
    train = (
        f"{data} {LINEAR} --encoder {encoder} --lr {LR[encoder]} {options} --updates {updates} --batch-size {batch}"
        f" --seed {seed} --validate-every {max(500, updates // 4)}"
    )
    return Run(f"{name}-{updates}x{batch}-s{seed}", train, "--suite units,sparsity,reconstruction")


def gradient_table(scale: str, images: str) -> list[Run]:
    """Poisson by the exact gradient, EAT and straight-through, from the start and by the published
    rule; Gaussian exact and pathwise; three kinds of data."""
    updates, batch, seeds = (3000, 200, 1) if scale == SHORT else (300_000, 1000, 5)
    data = {"images": images, "cifar16": f"--data cifar16{_contrast(images)}", "mnist": "--data mnist"}
    return [
        _linear(
            f"{kind}-{family}-linear-{estimator}",
            source,
            "linear",
            f"{FAMILIES[family]} --estimator {estimator}",
            updates,
            batch,
            seed,
        )
        for seed in range(seeds)
        for kind, source in data.items()
        for family, names in GRADIENTS.items()
        for estimator in names
    ]


def active_units(scale: str, images: str) -> list[Run]:
    """Four families with a linear and a conv encoder, a linear decoder of 512 atoms,
    photographs."""
    length = {"linear": 24_000, "conv": 2000} if scale == SHORT else {"linear": 321_000, "conv": 300_000}
    batch, seeds = (250, 1) if scale == SHORT else (1000, 5)
    return [
        _linear(
            f"images-{family}-{encoder}",
            images,
            encoder,
            FAMILIES[family],
            updates,
            batch,
            seed,
        )
        for seed in range(seeds)
        for encoder, updates in length.items()
        for family in ("poisson", "laplace", "gaussian", "categorical")
    ]


def starts(scale: str, images: str) -> list[Run]:
    """The Poisson family with a linear encoder from two starts of its rates, the published one and
    the default of this package where an encoder is trained, in small batches and in the published
    ones, five seeds each; of patches that are cut anew for every batch and, as published, of a
    fixed number, each of which is seen in every epoch."""
    lengths = ((24_000, 250, None), (24_000, 1000, None), (24_000, 1000, PATCHES))
    if scale == LONG:
        lengths = ((321_000, 1000, PATCHES),)
    return [
        _linear(
            f"images-poisson-linear-{name}" + ("" if patches is None else f"-{patches}patches"),
            images if patches is None else f"{images} --patches {patches}",
            "linear",
            f"--family poisson --start-log-rate {start}",
            updates,
            batch,
            seed,
        )
        for updates, batch, patches in lengths
        for seed in range(5)
        for name, start in {"start5": -5, "start1": -1}.items()
    ]


def iterative(scale: str, images: str) -> list[Run]:
    """The iterative Poisson VAE by its published rule and start, 16 steps in training and in
    evaluation, at published weights β of the KL."""
    updates, seeds, betas = (1500, 1, (8, 24, 64)) if scale == SHORT else (161_000, 3, (8, 16, 24, 32, 64))
    rule = (
        "--inference spiking-lca --steps 16 --rule published --clamps rising --start-scale 1e-4 --learn-variance"
        " --variances each --kl-rate posterior --start-log-rate -5 --latents 512 --beta-ramp 0.5 --clip 300 --lr 0.005"
    )
    return [
        Run(
            f"images-iterative-beta{beta}-{updates}x200-s{seed}",
            f"{images} --patches {PATCHES} {rule} --beta {beta} --updates {updates} --batch-size 200 --seed {seed}"
            f" --validate-every {updates // 3}",
            "--suite sparsity,reconstruction",
        )
        for seed in range(seeds)
        for beta in betas
    ]


def dictionaries(scale: str, images: str) -> list[Run]:
    """The dictionaries of the four families with a linear encoder, of the Poisson family with the
    published start of its rates and with LCA inference, and of sparse coding by LCA and ISTA."""
    families = [run for run in active_units(scale, images) if "-linear-" in run.name and run.name.endswith("-s0")]
    length, size = families[0].name.split("-")[3].split("x")
    start = ("images-poisson-linear-start5", images, "linear", "--family poisson --start-log-rate -5")
    families.append(_linear(*start, int(length), int(size), 0))
    updates, batch = (2000, 200) if scale == SHORT else (20_000, 1000)
    families.append(
        Run(
            f"images-poisson-lca-{updates}x{batch}-s0",
            f"{images} --inference lca-unrolled --latents 512 --updates {updates} --batch-size {batch}",
            "--suite units,sparsity,reconstruction",
        )
    )
    coding = "--model sparse-coding --latents 512 --threshold 0.8"
    return families + [
        Run(
            f"images-{name}-{updates}x{batch}-s0",
            f"{images} --inference {name}-unrolled {coding} --shrinkage {shrinkage} --updates {updates}"
            f" --batch-size {batch}",
            "--suite sparsity,reconstruction",
        )
        for name, shrinkage in (("lca", "hard"), ("ista", "soft"))
    ]


def knn(scale: str, images: str) -> list[Run]:
    """Six families on MNIST, K = 10, the same encoder and decoder (two layers of 512), at several
    training lengths."""
    lengths, seeds, reported = (500, 2000), 1, (2000,)
    if scale == LONG:
        lengths, seeds, reported = (500, 2000, 8000, 32_000, 100_000), 3, (8000, 100_000)
    network = "--inference amortized --encoder mlp --decoder mlp --data mnist --latents 10 --lr 0.002 --beta-ramp 0.5"
    readouts = "--readouts residual,clamped,mean,root,sample"
    return [
        Run(
            f"mnist-{family}-mlp-{updates}x200-s{seed}",
            f"{network} {options} --updates {updates} --batch-size 200 --seed {seed}"
            f" --validate-every {max(500, updates // 8)}",
            # the pixels are the same for every run
            readouts + (",pixels" if (updates, family, seed) == (lengths[0], "poisson", 0) else ""),
            ("validation", "test") if updates in reported else ("validation",),
        )
        for seed in range(seeds)
        for updates in lengths
        for family, options in FAMILIES.items()
    ]


def _contrast(images: str) -> str:
    """The options of local contrast among those of the photographs."""
    words = images.split()
    rule = f" --contrast-rule {words[words.index('--contrast-rule') + 1]}" if "--contrast-rule" in words else ""
    return " --local-contrast" + rule if "--local-contrast" in words else ""


EXPERIMENTS = {
    "gradient-table": Experiment("Free energy by gradient estimator", gradient_table),
    "active-units": Experiment("Active units", active_units),
    "knn": Experiment("Classification of MNIST codes, K = 10", knn),
    "dictionaries": Experiment("Dictionaries", dictionaries),
    "iterative": Experiment("The iterative Poisson VAE: zeros and R² by the weight of the KL", iterative),
    "starts": Experiment("Dictionaries of a linear encoder by the start of the prior rates", starts),
}
