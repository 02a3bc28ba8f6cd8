"""`itervae train`: see `itervae.config` for how its options come about."""

from datetime import datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from itervae.config import parse_train
from itervae.errors import InputError
from itervae.model import PoissonPrior, PoissonVAESettings, Prior, SparseCodingSettings, SparsityPrior
from itervae.training import LAST, train
from itervae.training.distributed import leads


def run(args: list[str]) -> None:
    settings, run_dir, resume = parse_train(args)
    if resume is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        run_dir = run_dir or Path("runs") / f"{stamp}-{settings.data.data}-{settings.inference}"
        if run_dir.exists() and not run_dir.is_dir():
            raise InputError(f"--run-dir {run_dir} is a file; name a folder")
        if (run_dir / LAST).exists():
            raise InputError(f"there is a run in {run_dir}; name another folder, or go on with it: --resume {run_dir}")
        if run_dir.exists() and any(run_dir.iterdir()) and not (run_dir / "config.yaml").exists():
            raise InputError(f"run folder {run_dir} is not empty and holds no run; name another folder")
    summary = train(settings, resume or run_dir or Path("runs"), resume=resume is not None)
    if not leads():
        return
    console = Console()
    if not summary.finished:
        console.print(f"stopped and saved after update {summary.updates}; go on with:", highlight=False)
        console.print(f"  itervae train --resume {summary.run_dir}", highlight=False, soft_wrap=True)
        return
    table = Table(title=f"{summary.updates} updates in {summary.seconds / 60:.1f} minutes", title_justify="left")
    table.add_column("held-out data")
    table.add_column("mean", justify="right")
    found = summary.validation
    priors = {SparseCodingSettings: SparsityPrior, PoissonVAESettings: PoissonPrior}
    names = priors.get(type(settings.model), Prior).terms
    rows = {
        names[0]: f"{found['free_energy']:.2f} ± {found['free_energy_se']:.2f} nats",
        "  reconstruction": f"{found['reconstruction']:.2f} nats",
        f"  {names[1]}": f"{found['kl']:.2f} nats",
        f"{names[2]} per datum": f"{found['spikes']:.2f}",
        "share of zeros": f"{found['share_zero']:.3f}",
    }
    if np.isfinite(found["certificate"]):
        rows["certificate (bound of the gap)"] = f"{found['certificate']:.2g} nats"
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"run folder: {summary.run_dir}", highlight=False, soft_wrap=True)
