"""The command: itervae train | infer | export | engines."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from itervae.config import parse_train
from itervae.data import DataSettings, load_inputs
from itervae.errors import InputError
from itervae.files import write_arrays
from itervae.inference import ENGINES, Engine, check_fit, infer
from itervae.model import GenerativeModel, load_dictionary, save_dictionary
from itervae.training import choose_device, load, load_settings, read_checkpoint, train
from itervae.training.checkpoint import find_checkpoint

USAGE = """usage: itervae COMMAND ...

  train     learn a model and its inference engine from images or arrays
  infer     encode data with a trained run or a saved dictionary
  export    write the dictionary of a run
  engines   list the inference engines and what each needs

itervae COMMAND --help explains each."""

BATCH = 1000


@dataclass
class Infer:
    """Encode data: log-rates, sampled counts, reconstructions of the mean rate and free energy, one row a datum."""

    target: tyro.conf.Positional[Path]
    """Run folder, checkpoint, or dictionary file (.npz, .npy)."""
    input: Path
    """Array (N, D) or (N, H, W), taken as it is, or images larger than the patch, whitened and tiled as in the run."""
    output: Path
    """File to write, .npz."""
    key: str | None = None
    """Array inside an .npz input."""
    inference: str | None = None
    """Another engine than the run's own; lca-unrolled for a dictionary."""
    steps: int | None = None
    """Number of inference steps; the engine's own by default."""
    seed: int = 0
    """Seed of the sampled counts."""
    device: str = "auto"
    """cpu, cuda, or auto."""


@dataclass
class Export:
    """Write the dictionary, the prior log-rates and the observation variance of a run with a linear decoder."""

    target: tyro.conf.Positional[Path]
    """Run folder or checkpoint."""
    dictionary: Path
    """File to write, .npz."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; errors of input end it with exit code 2 and one sentence."""
    args = list(sys.argv[1:] if args is None else args)
    commands = {"train": _train, "infer": _infer, "export": _export, "engines": _engines}
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return
    try:
        if args[0] not in commands:
            raise InputError(f"{args[0]!r} is not a command; expected one of {', '.join(commands)}")
        commands[args[0]](args[1:])
    except InputError as error:
        print(f"itervae: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("itervae: stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _train(args: list[str]) -> None:
    settings, run_dir, resume = parse_train(args)
    if resume is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        run_dir = run_dir or Path("runs") / f"{stamp}-{settings.data.data}-{settings.inference}"
        if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
            raise InputError(
                f"run folder {run_dir} exists and is not empty; name another, or go on with it by --resume {run_dir}"
            )
    summary = train(settings, resume or run_dir or Path("runs"), resume=resume is not None)
    console = Console()
    if not summary.finished:
        console.print(f"stopped and saved after update {summary.updates}; go on with:", highlight=False)
        console.print(f"  itervae train --resume {summary.run_dir}", highlight=False, soft_wrap=True)
        return
    table = Table(title=f"{summary.updates} updates in {summary.seconds / 60:.1f} minutes", title_justify="left")
    table.add_column("held-out data")
    table.add_column("mean", justify="right")
    found = summary.validation
    rows = {
        "free energy": f"{found['free_energy']:.2f} ± {found['free_energy_se']:.2f} nats",
        "  reconstruction": f"{found['reconstruction']:.2f} nats",
        "  KL": f"{found['kl']:.2f} nats",
        "spikes per datum": f"{found['spikes']:.2f}",
        "share of zeros": f"{found['share_zero']:.3f}",
    }
    if np.isfinite(found["certificate"]):
        rows["certificate (bound of the gap)"] = f"{found['certificate']:.2g} nats"
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"run folder: {summary.run_dir}", highlight=False, soft_wrap=True)


def _infer(args: list[str]) -> None:
    options = tyro.cli(Infer, prog="itervae infer", args=args)
    if options.output.suffix != ".npz":  # said before the work, not after
        raise InputError(f"--output is {options.output}; expected a name ending in .npz")
    device = choose_device(options.device)
    model, engine, data = _open(options.target)
    if options.inference is not None:
        if options.inference not in ENGINES:
            raise InputError(f"inference engine {options.inference!r} is unknown; expected one of {', '.join(ENGINES)}")
        kind = ENGINES[options.inference]
        check_fit(kind, model)
        if kind.learned:
            raise InputError(
                f"--inference {options.inference} has to be trained, and this target brings none; use the run that did"
            )
        engine = kind.build(kind.Settings(), model, model.shape)
    model, engine = model.to(device), engine.to(device)
    inputs = load_inputs(options.input, options.key, data, model.shape)
    generator = torch.Generator(device).manual_seed(options.seed)
    columns: dict[str, list[np.ndarray]] = {}
    console = Console(stderr=True)
    with torch.no_grad():
        batches = inputs.x.split(BATCH)
        for batch in track(batches, "inferring", console=console, disable=len(batches) < 5, transient=True):
            x = batch.to(device)
            posterior = infer(model, engine, x, steps=options.steps, generator=generator).posterior
            found = {
                "log_rate": posterior.log_rate,
                "counts": posterior.sample(generator=generator).int(),
                "reconstruction": model.decode(posterior.mean),
                "free_energy": model.free_energy(x, posterior, generator=generator).total,
            }
            for name, value in found.items():
                columns.setdefault(name, []).append(value.cpu().numpy())
    arrays = {name: np.concatenate(values) for name, values in columns.items()}
    if inputs.positions is not None:
        arrays["positions"] = inputs.positions.numpy()
    write_arrays(options.output, arrays)
    mean = arrays["free_energy"].mean()
    print(f"{len(inputs.x)} data, free energy {mean:.2f} nats in the mean, written to {options.output}")


def _open(target: Path) -> tuple[GenerativeModel, Engine, DataSettings]:
    """The model, engine and data settings of a run, or of a dictionary file with the default engine."""
    if target.suffix in (".npz", ".npy"):
        model = load_dictionary(target)
        return model, ENGINES["lca-unrolled"](), DataSettings()
    model, engine = load(target)
    return model, engine, load_settings(read_checkpoint(find_checkpoint(target))).data


def _export(args: list[str]) -> None:
    options = tyro.cli(Export, prog="itervae export", args=args)
    model, _ = load(options.target)
    save_dictionary(model, options.dictionary)
    size, latents = model.dictionary.shape
    print(f"dictionary of {latents} atoms of {size} values written to {options.dictionary}")


def _engines(args: list[str]) -> None:
    tyro.cli(_Engines, prog="itervae engines", args=args)
    table = Table(show_lines=False)
    for heading in ("engine", "what it does", "needs of the model", "steps"):
        table.add_column(heading)
    for name, engine in ENGINES.items():
        summary = (engine.__doc__ or "").strip().split("\n")[0].rstrip(".:")
        needs = ", ".join(sorted(engine.requires)) or "any model"
        default = getattr(engine.Settings(), "steps", 0)
        table.add_row(name, summary, needs, str(default) if default else "one pass")
    Console().print(table)


@dataclass
class _Engines:
    """List the inference engines and what each needs."""
