"""Training: one loop, from batch to update, that reads top to bottom.

Joint learning of the generative model and the engine of inference by descent on the free energy:

    batch → infer → free energy → backward → update,      every so often: log, validate, save

All from inference to the gradient is `Run.gradient`, which the estimators of `itervae.sklearn` use
too.

A batch is a function of (seed, update), and samples are drawn from one generator whose state is
saved, as is what a window of a sequence hands to the next, so a run that is resumed continues bit
for bit on a CPU. What a batch is, and its loss, is for the task to say (`tasks`); how a run starts
or goes on is in `start`, and what it keeps in `session`.

Under torchrun each process has a part of the rows (`itervae.training.distributed`), and the first
one does the writing:

    torchrun --nproc_per_node=4 -m itervae train --data images --data-path photographs/
"""

from collections.abc import Collection
from pathlib import Path

from itervae.inference import certificate
from itervae.paths import check_path
from itervae.training.checkpoint import load_settings, read_checkpoint
from itervae.training.distributed import joined
from itervae.training.files import LAST
from itervae.training.memory import within_memory
from itervae.training.reports import Summary
from itervae.training.session import Session
from itervae.training.settings import RunSettings
from itervae.training.start import started


def train_run(settings: RunSettings, run_dir: str | Path, resume: bool = False) -> Summary:
    """Train, or go on training, in `run_dir`.

    Leaves `config.yaml`, `checkpoint_last.pt`, `checkpoint_best.pt`, `metrics.jsonl`, TensorBoard
    events, pictures and `summary.json`. Ctrl-C (or SIGTERM) stops after the current update and
    saves; a second one raises KeyboardInterrupt.

    Raises:
        InputError: settings that do not fit each other or the data, a folder that is taken, or a
            run that diverged.
    """
    settings = settings.located()
    with (
        joined() as processes,
        within_memory(settings),
        started(settings, processes.told(check_path(run_dir)), resume, processes) as session,
    ):
        while session.goes_on:
            _update(session)
            # looked at once, so that the clock cannot run out between the last validation and the
            # end of the loop
            session.agree()
            if session.now >= 1 or session.at.update % settings.training.validate_every == 0:
                session.save()
                session.validate()
        return session.end()


def _update(session: Session) -> None:
    """One update of the parameters.

    Raises:
        InputError: the run has diverged.
    """
    run, at, now = session.run, session.at, session.now
    session.batch = run.task.batch(at.update)
    with session.watched():
        step, norm = run.gradient(session.batch, now)
    # before the update: afterwards the posterior would be held against another model
    residual = certificate(run.model, step.x, step.posterior, step.prior).mean() if session.logs else None
    run.update(step, now)
    at.update += 1
    if residual is not None:
        session.log(now, step, norm, residual)


def resume_settings(run_dir: Path, own: Collection[type] = ()) -> RunSettings:
    """The settings that a run was started with, from its last checkpoint; `own` as for `load`."""
    return load_settings(read_checkpoint(run_dir / LAST), own)
