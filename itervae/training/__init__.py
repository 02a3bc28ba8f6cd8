"""Training: settings, schedules, the loop, checkpoints, and what a run leaves behind."""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.training.checkpoint import load_settings, read_checkpoint, write_checkpoint
    from itervae.training.choices import choose_device
    from itervae.training.files import BEST, LAST
    from itervae.training.given import train
    from itervae.training.loading import LoadedRun, load, load_sequence
    from itervae.training.options import TrainingSettings
    from itervae.training.schedules import Schedule
    from itervae.training.settings import RunSettings
    from itervae.training.trainer import Summary, resume_settings, train_run
    from itervae.training.validation import validate

__all__ = [
    "BEST",
    "LAST",
    "LoadedRun",
    "RunSettings",
    "Schedule",
    "Summary",
    "TrainingSettings",
    "choose_device",
    "load",
    "load_sequence",
    "load_settings",
    "read_checkpoint",
    "resume_settings",
    "train",
    "train_run",
    "validate",
    "write_checkpoint",
]
__getattr__, __dir__ = lazily(__name__)
