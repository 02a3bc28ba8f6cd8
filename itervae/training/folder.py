"""The folder of a run: what it may hold when a run is begun there, and how it is made ready."""

import contextlib
from datetime import datetime
from pathlib import Path

import yaml

from itervae.errors import InputError
from itervae.files import TEMPORARY, clear_temporaries, write_bytes
from itervae.training.files import CONFIG, FAILURE, LAST, LOCK, SUMMARY
from itervae.training.lock import check_unlocked
from itervae.training.settings import RunSettings


def default_folder(settings: RunSettings) -> Path:
    """Where a run goes for which no folder is named: runs/DATE-TIME-DATA-ENGINE."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    engine = settings.engine_name.replace(":", ".")  # MODULE:CLASS
    return Path("runs") / f"{stamp}-{settings.data.data}-{engine}"


def check_free(run_dir: Path) -> None:
    """Refuse a place where no run can be begun, without making anything there.

    Raises:
        InputError: a file, a folder of another run or of other things, or one in which another
            process trains.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"`run_dir={run_dir}` is a file; name a folder")
    if not run_dir.exists():
        return
    check_unlocked(run_dir)
    check_new(run_dir)


def check_new(run_dir: Path) -> None:
    """Refuse a folder that holds a run already, or other things.

    Raises:
        InputError: there is a checkpoint, or files without a run; what a process that was killed
            left is none.
    """
    if (run_dir / LAST).exists():
        raise InputError(f"there is a run in {run_dir}; name another folder, or go on with it: `resume={run_dir}`")
    others = [file for file in run_dir.iterdir() if file.name != LOCK and not TEMPORARY.fullmatch(file.name)]
    if others and not (run_dir / CONFIG).exists():
        raise InputError(f"run folder {run_dir} is not empty and holds no run; name another folder")


def make_ready(run_dir: Path, settings: RunSettings) -> None:
    """Write the settings, and clear away what killed processes left and what the run said when it
    was last stopped. For a folder that is locked.

    Raises:
        InputError: it cannot be written.
    """
    clear_temporaries(run_dir)
    for name in (SUMMARY, FAILURE):
        with contextlib.suppress(FileNotFoundError):
            (run_dir / name).unlink()
    write_bytes(run_dir / CONFIG, yaml.safe_dump(settings.flat(), sort_keys=False).encode())


def check_data(settings: RunSettings, run_dir: Path) -> None:
    """Refuse a run whose data are not where it has them, and say what can be done.

    Raises:
        InputError: names the run, the setting and the path.
    """
    for name in ("data_path", "val_path"):
        path = getattr(settings.data, name)
        if path is not None and not path.exists():
            raise InputError(
                f"the data of run {run_dir} are not at {path}, the {name} in its {CONFIG}; bring them back, or say "
                f"where they are with `{name}`"
            )
