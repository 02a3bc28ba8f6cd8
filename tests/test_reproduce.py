"""The experiments of scripts/reproduce: every run is one that the command takes, and what is done
is not done again."""

import importlib.util
import json
import re
import shlex
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import pytest
import torch

from itervae.cli.evaluate import READOUTS, SUITES
from itervae.config import parse_train
from itervae.training.choices import check_settings

SCRIPTS = Path(__file__).parents[1] / "scripts"
IMAGES = "--data images --data-path bsds.npz --data-key train --local-contrast"


@pytest.fixture(scope="module")
def reproduce():
    before = list(sys.path)
    loader = SourceFileLoader("reproduce", str(SCRIPTS / "reproduce"))
    spec = importlib.util.spec_from_loader("reproduce", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    yield module
    sys.path[:] = before


@pytest.mark.parametrize(
    ("scale", "images"), [("--quick", "--data photos"), pytest.param("--full", IMAGES, marks=pytest.mark.slow)]
)
def test_every_run_can_be_trained_and_measured(reproduce, scale, images):
    """Options parse, fit each other, and a name stands for one set of options."""
    named = {}
    for experiment in reproduce.EXPERIMENTS.values():
        runs = experiment.runs(scale, images)
        assert len({run.name for run in runs}) == len(runs)
        parsed = set()
        for run in runs:
            assert named.setdefault(run.name, run.train) == run.train
            options = re.sub(r"--seed \d+", "", run.train)
            if options in parsed:
                continue
            parsed.add(options)
            settings, _, _ = parse_train(shlex.split(run.train))
            check_settings(settings)
            words = shlex.split(run.evaluate)
            known = {"--suite": SUITES, "--readouts": (*READOUTS, "pixels")}
            for option, value in zip(words[::2], words[1::2], strict=True):
                assert set(value.split(",")) <= set(known[option])
    tested = [run for run in reproduce.EXPERIMENTS["knn"].runs(scale, images) if "test" in run.splits]
    lengths = {int(run.train.split("--updates ")[1].split()[0]) for run in tested}
    assert lengths == ({2000} if scale == "--quick" else {8000, 100_000})


VIDEO = "--data video --data-path davis_gray.npz --freeze phi.npz"


@pytest.mark.parametrize("scale", ["--quick", "--full"])
@pytest.mark.parametrize("experiment", ["carryover", "film"])
def test_each_sequence_is_held_out_once(reproduce, experiment, scale):
    folds = reproduce.folds_of(reproduce.PLANS[experiment][scale], VIDEO)
    seeds = {fold.name[-1] for fold in folds}
    assert len({run.name for fold in folds for run in fold.runs.values()}) == sum(len(fold.runs) for fold in folds)
    for seed in seeds:
        of_seed = [fold for fold in folds if fold.name.endswith(f"-s{seed}")]
        held = [run.train.split("--val-sequences ")[1].split()[0] for fold in of_seed for run in fold.runs.values()]
        assert all(held.count(names) == len(of_seed[0].runs) for names in held)
        assert sorted(",".join(dict.fromkeys(held)).split(",")) == sorted(sys.modules["experiment_folds"].SEQUENCES)
    for name, run in folds[-1].runs.items():
        settings, _, _ = parse_train(shlex.split(run.train))
        check_settings(settings)
        assert settings.sequence.carryover == (name if experiment == "carryover" or name == "level" else "linear")
    assert folds[-1].named({"none": 0, "level": 1}) == {"none": 0, "level": 1}
    keys = ["linear"] if experiment == "carryover" else [f"linear ({run.name})" for run in folds[-1].runs.values()][1:]
    expected = ["linear"] if experiment == "carryover" else ["diagonal", "diagonal-reach2", "full-reach2"]
    assert list(folds[-1].named(dict.fromkeys(keys))) == expected


def test_the_table_of_carryovers_counts_each_sequence_once(reproduce):
    """Two seeds of two sequences; of each sequence the mean over seeds counts."""

    def report(none, level, linear):
        return {
            "none": {"optimum": none, "at_steps": {"3": none + 5}},
            "level": {"optimum": level, "at_steps": {"3": level + 5}, "beyond_level": 0.0}
            | {"shuffled_optimum": none, "within_optimum": level},
            "linear": {"optimum": linear, "at_steps": {"3": linear + 7}, "beyond_level": level - linear}
            | {"shuffled_optimum": none + 4, "within_optimum": level},
        }

    def fold(**sequences):
        about = {"frames": 16, "tubes": 8, "certificate_max": 1e-6, "sequences": sequences}
        return {"trained": {"level": {"updates": 50}, "linear": {"updates": 50}}, "report": about}

    cows, dog = report(100.0, 90.0, 80.0), report(50.0, 48.0, 51.0)
    found = {"video-fold0-50x8-s0": fold(cows=cows, dog=dog)}
    found["video-fold0-50x8-s1"] = fold(cows=report(100.0, 90.0, 78.0), dog=dog)
    table = reproduce.carryover_table(found)
    assert "2 sequences in 1 folds, 50 updates, 8 tubes of 16 frames of each, 2 training seeds" in table
    # gains 21 and −1, beyond level 11 and −3, at 3 steps 19 and −3, against the optimum 14 and −8
    columns = ["10.0 ± 11.0 (1 of 2)", "4.0 ± 7.0 (1 of 2)", "-4.0 ± 0.0 (0 of 2)", "6.0 ± 4.0 (2 of 2)"]
    assert " | ".join(["| `linear`", *columns, "8.0 ± 11.0 (1 of 2)", "3.0 ± 11.0 (1 of 2) |"]) in table
    assert "| dog | 50.0 | 2.0 | -1.0 | -4.0 | 2.0 |" in table


def test_movement_is_that_of_a_window_that_moves(reproduce):
    texture = np.random.default_rng(0).standard_normal((64, 80))
    moving = np.stack([texture[8 + 2 * t : 56 + 2 * t, 4 + t : 68 + t] for t in range(4)])
    tubes = torch.from_numpy(np.stack([moving, np.repeat(moving[:1], 4, 0)])).float()
    movement = sys.modules["experiment_film"].movement
    assert movement(tubes[1:]) == 0
    assert movement(tubes[:1]) == pytest.approx(5**0.5, rel=0.1)  # what has come in from the border is elsewhere
    assert movement(tubes) == pytest.approx(movement(tubes[:1]) / 2)


def test_what_displacement_gains_is_told_by_movement(reproduce):
    def reports(none, diagonal, displaced, full):
        names = ("none", "diagonal", "diagonal-reach2", "full-reach2")
        each = zip(names, (none, diagonal, displaced, full), strict=True)
        return {name: {"optimum": value, "within_optimum": value + (name == "diagonal-reach2")} for name, value in each}

    sequences = {"cows": reports(100.0, 90.0, 80.0, 70.0), "dog": reports(50.0, 40.0, 42.0, 44.0)}
    report = {"shape": [10, 10], "sequences": sequences}
    table = sys.modules["experiment_film"].film_table({"s0": {"report": report, "movement": {"cows": 2.0, "dog": 0.5}}})
    assert "| dog | 0.5 | 0.5000 | 100.00 | -20.00 | -30.00 | 10.00 | -40.00 | -40.00 |\n| cows | 2.0 |" in table
    assert "| all | 100.00 ± 0.00 (2 of 2) | 40.00 ± 60.00 (1 of 2) |" in table
    assert "| below 1 | " in table


@pytest.mark.slow
def test_a_run_is_made_once_and_reported(reproduce, tmp_path):
    options = "--data photos --inference amortized --latents 4 --patch-size 8 --updates 5 --batch-size 20"
    run = reproduce.Run("images-poisson-linear-5x20-s0", options, "--suite units,sparsity,reconstruction")
    folder = tmp_path / run.name
    reproduce.make(run, folder, "cpu")
    first = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    reproduce.make(run, folder, "cpu")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == first
    found = reproduce.collect([run, reproduce.Run("missing", options, "")], tmp_path)
    assert list(found) == [run.name]
    assert found[run.name]["updates"] == 5
    table = reproduce.TABLES["active-units"](found)
    fraction = found[run.name]["validation"]["units"]["fraction"]
    assert f"| poisson | linear | 0.984 | {fraction:.3f} |" in table
    assert "5 × 20" in table
    atoms, shape = reproduce.atoms_in_order(folder)
    assert atoms.shape == (64, 4)
    assert shape == (8, 8)
    content = {"schema": 1, "runs": found | {"other": {}}}
    text = reproduce.one_run_a_line(content)
    assert json.loads(text) == content
    assert text.count("\n") == 4
    changed = reproduce.Run(run.name, options.replace("--latents 4", "--latents 5"), run.evaluate)
    with pytest.raises(reproduce.Failed, match="made with other options"):
        reproduce.make(changed, folder, "cpu")
    wrong = reproduce.Run("wrong", "--latents 0 --updates 5", "")
    with pytest.raises(reproduce.Failed, match="latents is 0; expected a number"):
        reproduce.make(wrong, tmp_path / "wrong", "cpu")


def test_tables_put_published_figures_beside_those_measured(reproduce):
    def measures(accuracy):
        knn = {readout: [{"labels": n, "accuracy": accuracy} for n in (200, 1000, 5000)] for readout in READOUTS}
        shattering = {readout: {"accuracy": 0.7} for readout in READOUTS}
        return {
            "knn": knn,
            "shattering": shattering,
            "readout": shattering,
            "units": {"active": 10},
            "reconstruction": {"free_energy": 30.0, "kl": 5.0, "mean": {"r2_pooled": 0.5}},
        }

    found = {
        f"mnist-gaussian-mlp-500x200-s{seed}": {"updates": 500, "num": 10_000, "validation": measures(0.5 + seed / 10)}
        for seed in (0, 1)
    }
    table = reproduce.TABLES["knn"](found)
    assert "| gaussian | published | 0.673 | 0.813 | 0.891 | 0.758 | test |" in table
    assert "|  | 500 updates | 0.550 (0.500 to 0.600) |" in table
    energies = {"exact": 100.0, "eat": 101.0, "eat-then-straight-through": 107.0, "straight-through": 103.0}
    found = {
        f"mnist-poisson-linear-{name}-500x200-s0": {
            "updates": 500,
            "num": 100,
            "validation": {"reconstruction": {"free_energy": value}},
        }
        for name, value in energies.items()
    }
    table = reproduce.TABLES["gradient-table"](found)
    rows = {row.split("|")[2].strip(): row for row in table.splitlines() if row.startswith("| poisson")}
    assert rows["eat-then-straight-through"].endswith("| 44.8 | 107.0 (+7.0%) |")
    assert rows["straight-through"].endswith("|  | 103.0 (+3.0%) |")  # nothing like it was published
