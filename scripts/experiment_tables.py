"""The tables of `scripts/reproduce`, in Markdown: published beside measured here.

Published figures: Vafaii, Galor & Yates (2024), "Poisson variational autoencoder" (van Hateren
patches, CIFAR-10, MNIST).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from experiment_figures import title_of
from experiments import GRADIENTS

from itervae.evaluation.codes import CODE_READOUTS

Results = dict[str, dict[str, Any]]
FAMILIES = ("poisson", "categorical", "laplace", "gaussian", "gaussian-relu", "gaussian-exp")
READOUTS = CODE_READOUTS
BUDGETS = (200, 1000, 5000)

ELBO = {  # negative ELBO, linear encoder and decoder, nats: van Hateren, CIFAR 16x16, MNIST
    ("poisson", "exact"): (168.0, 167.1, 41.5),
    ("poisson", "eat"): (167.2, 167.3, 41.7),
    ("poisson", "eat-then-straight-through"): (179.3, 182.3, 44.8),  # their rule
    ("gaussian", "pathwise"): (160.3, 165.9, 40.7),
}
ACTIVE = {  # fraction of active units on van Hateren patches, linear and conv encoder
    "poisson": (0.984, 0.819),
    "laplace": (0.188, 0.222),
    "gaussian": (0.218, 0.246),
}
NEIGHBOURS = {  # accuracy with 200, 1000 and 5000 labels, and shattering, K = 10
    "poisson": (0.815, 0.919, 0.946, 0.797),
    "categorical": (0.705, 0.800, 0.853, 0.795),
    "laplace": (0.757, 0.869, 0.924, 0.751),
    "gaussian": (0.673, 0.813, 0.891, 0.758),
    "gaussian-relu": (0.694, 0.817, 0.877, 0.762),
    "gaussian-exp": (0.642, 0.784, 0.863, 0.737),
}


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def scale_of(run: dict[str, Any], name: str) -> str:
    """What a figure was measured with: updates × batch, and the number of data."""
    batch = name.rsplit("x", 1)[1].split("-")[0]
    return f"{run['updates']} × {batch}, {run['num']} held out"


def over_seeds(values: Sequence[float], digits: int) -> str:
    """The mean over training seeds, with the range of more than one; empty where nothing was
    measured."""
    if not values:
        return ""
    mean = sum(values) / len(values)
    spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def by_seed(found: Results) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Runs that differ in the seed alone."""
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, run in found.items():
        groups.setdefault(re.sub(r"-s\d+$", "", name), []).append((name, run))
    return groups


def gradient_table(found: Results) -> str:
    """Free energy by family, estimator and data, and its distance to the exact gradient's."""
    kinds = ("images", "cifar16", "mnist")
    values: dict[tuple[str, str, str], list[float]] = {}
    scales = {}
    for name, run in found.items():
        kind, family, _, estimator = re.match(r"(\w+)-(\w+)-(\w+)-([a-z-]+)-\d+x", name).groups()  # pyright: ignore
        values.setdefault((kind, family, estimator), []).append(run["validation"]["reconstruction"]["free_energy"])
        scales[kind] = f"{kind}: {scale_of(run, name)}"
    rows = []
    for family, estimators in GRADIENTS.items():
        for estimator in estimators:
            row = [family, estimator]
            for column, kind in enumerate(kinds):
                published = ELBO.get((family, estimator))
                here, exact = (values.get((kind, family, other)) for other in (estimator, "exact"))
                text = "" if here is None else over_seeds(here, 1)
                if here is not None and exact is not None and estimator != "exact":
                    text += f" ({100 * (sum(here) / len(here) / (sum(exact) / len(exact)) - 1):+.1f}%)"
                row += [f"{published[column]:.1f}" if published else "", text]
            rows.append(row)
    headings = ["family", "gradient"]
    for kind, theirs in zip(kinds, ("van Hateren", "CIFAR 16×16", "MNIST"), strict=True):
        headings += [f"{theirs}, published", f"{kind}, measured here"]
    note = "Free energy in nats, held-out data; in brackets the distance to the exact gradient."
    scale = "; ".join(scales[kind] for kind in kinds if kind in scales)
    return f"{markdown(headings, rows)}\n\n{note} Scale (updates × batch): {scale}."


def active_units(found: Results) -> str:
    """Fraction of active units by family and encoder."""
    rows = []
    for runs in by_seed(found).values():
        name, run = runs[0]
        _, family, encoder = name.split("-")[:3]
        measures = [run["validation"] for _, run in runs]
        published = ACTIVE.get(family)
        above = [units["units"]["fraction_above"] for units in measures]
        rows.append(
            [
                family,
                encoder,
                f"{published[encoder == 'conv']:.3f}" if published else "",
                over_seeds([units["units"]["fraction"] for units in measures], 3),
                *(over_seeds([share[threshold] for share in above], 3) for threshold in ("0.001", "0.1")),
                over_seeds([found["reconstruction"]["free_energy"] for found in measures], 1),
                over_seeds([found["reconstruction"]["kl"] for found in measures], 1),
                over_seeds([found["reconstruction"]["mean"]["r2_pooled"] for found in measures], 3),
                scale_of(run, name),
            ]
        )
    headings = [
        "family",
        "encoder",
        "published",
        "KL > .01 nats",
        "> .001",
        "> .1",
        "F",
        "KL",
        "pooled R² of the mean",
        "scale",
    ]
    return markdown(headings, rows)


def dictionaries(found: Results) -> str:
    """How well and how sparsely each dictionary codes, and how local its atoms are."""
    rows = []
    for name, run in found.items():
        measures = run["validation"]
        code = measures["sparsity"]["mean"]
        rows.append(
            [
                title_of(name),
                f"{measures['reconstruction']['mean']['r2_pooled']:.3f}",
                f"{code['lifetime']:.3f}",
                f"{measures['units']['fraction']:.3f}" if "units" in measures else "",
                f"{run['atom_area']:.3f}",
                scale_of(run, name),
            ]
        )
    headings = ["dictionary", "pooled R² of the mean", "lifetime sparsity", "active", "area of an atom", "scale"]
    note = (
        "\n\nArea of an atom: (Σa²)²/(D·Σa⁴), the share of the pixels that it covers, median over the 100 atoms shown; "
        "1/3 for white noise, 2/3 for a grating."
    )
    return markdown(headings, rows) + note


def starts(found: Results) -> str:
    """What a start of the rates comes to, mean and standard error over seeds, beside the published
    figures."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, run in found.items():
        groups.setdefault(f"{title_of(name)}, {scale_of(run, name)}", []).append(run)
    columns: dict[str, Callable[[dict[str, Any]], float]] = {
        "area of an atom": lambda run: run["atom_area"],
        "lifetime sparsity": lambda run: run["validation"]["sparsity"]["mean"]["lifetime"],
        "active": lambda run: run["validation"]["units"]["fraction"],
        "squared error": lambda run: run["validation"]["reconstruction"]["mean"]["error"],
        "F": lambda run: run["validation"]["reconstruction"]["free_energy"],
    }
    rows = [["published", "", "0.790", "0.984", "102", "167", ""]]
    for title, runs in groups.items():
        values = {heading: np.array([of(run) for run in runs]) for heading, of in columns.items()}
        cells = [
            f"{each.mean():.4g} ± {each.std(ddof=1) / len(each) ** 0.5:.2g}" if len(each) > 1 else f"{each[0]:.4g}"
            for each in values.values()
        ]
        rows.append([title, *cells, str(len(runs))])
    note = (
        "\n\nMean ± standard error over seeds. Area of an atom: (Σa²)²/(D·Σa⁴), the share of the pixels that it "
        "covers, median over the 100 atoms shown; 1/3 for white noise, 2/3 for a grating. Squared error: of "
        "decoded mean rates."
    )
    return markdown(["start", *columns, "seeds"], rows) + note


ITERATIVE = {8: (0.675, 0.916), 16: (0.729, 0.872), 24: (0.775, 0.827), 32: (0.816, 0.776), 64: (0.905, 0.603)}
"""Published zeros and R² of a draw by β (16 steps in training)."""


def iterative(found: Results) -> str:
    """Zeros and R² of a draw by β, beside the published ones."""
    headings = ["β", "zeros", "R² of a draw: per datum", "median", "pooled", "of the rates: median", "pooled", "scale"]
    rows = []
    for beta, (zeros, explained) in ITERATIVE.items():
        runs = {name: run for name, run in found.items() if f"-beta{beta}-" in name}
        if runs:
            rows.append([f"{beta}, published", f"{zeros:.3f}", f"{explained:.3f}", "", "", "", "", ""])
        for name, run in runs.items():
            found_here = run["validation"]
            draw, rates = (found_here["reconstruction"][kind] for kind in ("sample", "mean"))
            values = [found_here["sparsity"]["share_zero"], draw["r2_per_datum"], draw["r2_per_datum_median"]]
            values += [draw["r2_pooled"], rates["r2_per_datum_median"], rates["r2_pooled"]]
            rows.append([str(beta), *(f"{value:.3f}" for value in values), scale_of(run, name)])
    note = (
        "\n\nShare of zeros of the spikes of the last of 16 steps, and R² of what they decode to. Published: per "
        "datum, about the datum's own mean, on patches of van Hateren; a mean over data is ruled by those next "
        "to constant, which the medians and the pooled R² are not."
    )
    return markdown(headings, rows) + note


def neighbours(found: Results) -> str:
    """Accuracies on MNIST: the published read-out at every length, and every read-out at the
    longest."""
    runs = by_seed(found)
    lengths = sorted({run["updates"] for run in found.values()})

    def of(family: str, updates: int, split: str = "validation") -> list[dict[str, Any]]:
        members = runs.get(f"mnist-{family}-mlp-{updates}x200", [])
        return [run[split] for _, run in members if split in run]

    def scores(measures: list[dict[str, Any]], readout: str) -> list[str]:
        """Accuracy by budget, and shattering."""
        cells = []
        for budget in BUDGETS:
            here = [s["accuracy"] for m in measures for s in m["knn"][readout] if s["labels"] == budget]
            cells.append(over_seeds(here, 3))
        return [*cells, over_seeds([m["shattering"][readout]["accuracy"] for m in measures], 3)]

    columns = ["N = 200", "1000", "5000", "shattering"]
    parts = ["## Read-out `residual` (log δr, location, log p), by training length; published: log δr, mean, logits"]
    rows = []
    for family in FAMILIES:
        rows.append([family, "published", *(f"{value:.3f}" for value in NEIGHBOURS[family]), "test"])
        for updates in lengths:
            for split in ("validation", "test"):
                if measures := of(family, updates, split):
                    rows.append(["", f"{updates} updates", *scores(measures, "residual"), split])
    for split, reference in ((s, run[s]["pixels"]) for run in found.values() for s in run if _has_pixels(run[s])):
        here = [f"{score['accuracy']:.3f}" for score in reference["knn"] if score["labels"] in BUDGETS]
        rows.append(["pixels", "", *here, f"{reference['shattering']['accuracy']:.3f}", split])
    parts.append(markdown(["family", "training", *columns, "split"], rows))

    for updates in lengths:
        rows = [
            [
                family if not index else "",
                readout,
                *scores(measures, readout),
                over_seeds(_linear(measures, readout), 3),
            ]
            for family in FAMILIES
            if (measures := of(family, updates))
            for index, readout in enumerate(READOUTS)
        ]
        parts.append(
            f"## Every read-out, {updates} updates of 200 ({updates * 200 // 50_000} epochs), validation split"
        )
        parts.append(markdown(["family", "read-out", *columns, "linear readout"], rows))
    rows = [
        [
            family,
            str(updates),
            over_seeds([m["reconstruction"]["free_energy"] for m in measures], 2),
            over_seeds([m["reconstruction"]["kl"] for m in measures], 2),
            over_seeds([float(m["units"]["active"]) for m in measures], 0),
            over_seeds([m["reconstruction"]["mean"]["r2_pooled"] for m in measures], 3),
        ]
        for family in FAMILIES
        for updates in lengths
        if (measures := of(family, updates))
    ]
    parts.append("## The models, validation split")
    parts.append(markdown(["family", "updates", "free energy", "KL", "active units", "pooled R² of the mean"], rows))
    return "\n\n".join(parts)


def _has_pixels(value: Any) -> bool:
    return isinstance(value, dict) and "pixels" in value


def _linear(measures: list[dict[str, Any]], readout: str) -> list[float]:
    return [found["readout"][readout]["accuracy"] for found in measures]


TABLES = {
    "gradient-table": gradient_table,
    "active-units": active_units,
    "knn": neighbours,
    "dictionaries": dictionaries,
    "starts": starts,
    "iterative": iterative,
}
