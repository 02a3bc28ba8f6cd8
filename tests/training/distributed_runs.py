"""Runs of `test_distributed.py`, in one process or, under torchrun, in several: in float64, each in
a folder of its own with the gradients of its first update. usage: distributed_runs.py FOLDER"""

import shutil
import sys
from pathlib import Path

import torch

from itervae.data import DataSettings, load_source
from itervae.inference import ENGINES
from itervae.model import PoissonVAESettings
from itervae.sequence import SequenceSettings
from itervae.training import RunSettings, TrainingSettings, session, start, train_run
from itervae.training.distributed import joined
from itervae.training.interrupt import Interrupt

UPDATES, HALF = 6, 3
OPTIONS = {"updates": UPDATES, "batch_size": 12, "validate_every": HALF, "device": "cpu", "lr": 0.01}
PATCH = 6


def settings(inference="lca-unrolled", data=None, sequence=None, **training):
    return RunSettings(
        inference,
        data or DataSettings(patch_size=PATCH),
        PoissonVAESettings(latents=16, start_log_rate=-1.0),
        ENGINES[inference].Settings(steps=3),
        TrainingSettings(**{**OPTIONS, **training}),
        SequenceSettings(**(sequence or {})),
    )


DRIFT = DataSettings(data="drift", patch_size=PATCH, frames=4)
RUNS = {
    "solver": settings(dictionary_steps="gradient"),
    "closed": settings(),
    "learned": settings("lista"),
    "sequence": settings(data=DRIFT, sequence={"carryover": "linear", "window": 2}),
    "sampled": settings(estimator="eat"),
}


LOADED = {}


def in_double(*args):
    """The source of a run, its values in float64; the same one where the arguments are."""
    if repr(args) in LOADED:
        return LOADED[repr(args)]
    torch.set_default_dtype(torch.float32)  # of images
    source = load_source(*args)
    torch.set_default_dtype(torch.float64)  # of what is trained
    batch, source.validation = source.batch, source.validation[:90].double()
    source.batch = lambda *given: batch(*given).double()
    LOADED[repr(args)] = source
    return source


class Watched:
    """Counts updates, keeps the gradients of the first one of each run, and interrupts the run when
    it is time."""

    clip = staticmethod(torch.nn.utils.clip_grad_norm_)
    updates, last, gradients = 0, UPDATES, None

    @classmethod
    def clipped(cls, parameters, largest):
        if not cls.updates:
            cls.gradients = [p.grad.clone() for p in parameters]
        cls.updates += 1
        return cls.clip(parameters, largest)

    @classmethod
    def train(cls, run, folder, last, **options):
        cls.updates, cls.last = 0, last
        train_run(run, folder, **options)


class Interrupted(Interrupt):
    asked = property(lambda self: Watched.updates >= Watched.last, lambda self, value: None)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    start.load_source = in_double
    session.draw_pictures = session.draw_sequence = lambda *_: []
    start.Interrupt = Interrupted
    torch.nn.utils.clip_grad_norm_ = Watched.clipped
    with joined() as processes:
        for name, run in RUNS.items():
            resumed = folder / f"{name}-resumed"
            Watched.train(run, folder / name, UPDATES + 1)
            torch.save(Watched.gradients, folder / name / f"gradients{processes.rank}.pt")
            Watched.train(run, resumed, HALF)
            if processes.lead:
                shutil.copytree(resumed, folder / f"{name}-half")
            Watched.train(run, resumed, UPDATES + 1, resume=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
