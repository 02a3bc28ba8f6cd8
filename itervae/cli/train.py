"""`itervae train`: see `itervae.config` for how its options come about."""

from typing import TYPE_CHECKING

import numpy as np

from itervae.cli import interruptible
from itervae.cli.targets import check_target
from itervae.config import parse_train
from itervae.training.checks import check_values
from itervae.training.folder import check_free, default_folder

if TYPE_CHECKING:
    from itervae.training import Summary

LOOSE = 1.0
"""A mean certificate above which it is said what one is, and what to do."""


def run(args: list[str]) -> None:
    settings, run_dir, resume = parse_train(args)
    if settings.training.freeze is None:
        check_values(settings)
    else:
        check_target(settings.training.freeze, saes=True)
    if run_dir is not None and resume is None:
        check_free(run_dir)
    from itervae.training import train_run
    from itervae.training.distributed import leads
    from itervae.training.interrupt import answered

    folder = resume or run_dir or default_folder(settings)
    interruptible()
    with answered(folder):
        summary = train_run(settings, folder, resume=resume is not None)
        if leads():
            _tell(summary)
    if summary.signal:  # so that nothing is done next that needs a whole run
        raise SystemExit(128 + summary.signal)


def _tell(summary: "Summary") -> None:
    """Print what a run has come to, or how to go on with it."""
    from rich.console import Console
    from rich.table import Table

    from itervae.training.interrupt import how_to_go_on
    from itervae.training.monitor import weighted

    console = Console()
    if not summary.finished:
        console.print(
            f"stopped and saved after update {summary.updates}; {how_to_go_on(summary.run_dir)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return
    table = Table(
        title=f"{summary.updates} update{'s' * (summary.updates != 1)} in {summary.seconds / 60:.1f} minutes",
        title_justify="left",
    )
    table.add_column("held-out data")
    table.add_column("mean", justify="right")
    found, unit = summary.validation, summary.prior.unit
    total, cost, activity = summary.prior.terms
    beta = found.get("beta", 1.0)
    rows = {
        total if beta == 1 else f"{total} = reconstruction + {weighted(cost, beta)}": (
            f"{found['free_energy']:.2f} ± {found['free_energy_se']:.2f} {unit}"
        ),
        "  reconstruction": f"{found['reconstruction']:.2f} {unit}",
        f"  {cost}": f"{found['kl']:.2f} {unit}",
        f"{activity} per datum": f"{found['spikes']:.2f}",
        "share of zeros": f"{found['share_zero']:.3f}",
    }
    if np.isfinite(found["certificate"]):
        rows["certificate, a bound of the gap"] = f"{found['certificate']:.2g} {unit}"
    for name, value in rows.items():
        table.add_row(name, value.rstrip())
    console.print(table)
    if found["certificate"] > LOOSE:
        console.print(
            "the certificate is a bound, and may be far above the gap: itervae gap measures that; more --steps, or "
            "--inference optimal where codes are inferred, come nearer to the best",
            highlight=False,
        )
    console.print(f"run folder: {summary.run_dir}", highlight=False, markup=False, soft_wrap=True)
