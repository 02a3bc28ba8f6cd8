"""What all commands share: target first, data options that overlay, outputs before work,
ENGINE:STEPS, own classes."""

import json
import re
from importlib import import_module

import numpy as np
import pytest
import torch

import itervae
from itervae import cli
from itervae.cli import runs
from itervae.cli.command import Measurement
from itervae.cli.evaluate import Evaluate
from itervae.cli.gap import Gap
from itervae.cli.infer import Infer
from itervae.cli.rate_distortion import RateDistortion
from itervae.cli.report import Report
from itervae.cli.sequence import Sequence
from itervae.data import DataSettings
from itervae.evaluation import filters

QUICK = ("--updates", 2, "--batch-size", 10, "--validate-every", 2, "--device", "cpu", "--latents", 6)
COMMANDS = {
    "infer": (Infer, "rows", ("--input", "x.npy"), {"output": "o.npz", "figure": "o.png"}),
    "gap": (
        Gap,
        "rows",
        ("--num", 5, "--engines", "lca-unrolled:2"),
        {"json": "o.json", "save": "o.npz", "figure": "o.png"},
    ),
    "evaluate": (Evaluate, "rows", ("--num", 9, "--suite", "units"), {"json": "o.json", "figure": "o.png"}),
    "rate-distortion": (
        RateDistortion,
        "rows",
        ("--num", 9, "--coders", "lca-unrolled:2:soft", "--thresholds", 0.5),
        {"json": "o.json", "figure": "o.png"},
    ),
    "sequence": (
        Sequence,
        "drift",
        ("--steps", 1, "--tubes", 1),
        {"json": "o.json", "figure": "o.png", "spikes": "s.png", "animation": "o.gif"},
    ),
}
"""Command → its class, a target, what it needs beside, and its outputs."""
OF_SOME = {"fill", "frontier"}
"""Outputs that not every target has: of data of which some are missing, and of an autoencoder."""
READING = [name for name, (kind, *_) in COMMANDS.items() if "data" in kind.__dataclass_fields__]
ENGINE = '''
from itervae.inference import LCAUnrolled

class Mine(LCAUnrolled):
    """The LCA by another name."""
'''


class Stop(Exception):
    """Ends a command before its work."""


def run(*args):
    cli.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contract")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(40, 16)))
    np.save(folder / "other.npy", np.random.default_rng(1).normal(size=(50, 16)))
    (folder / "my_engine.py").write_text(ENGINE, encoding="utf-8")
    rows = ("--data", "array", "--data-path", folder / "x.npy", "--val-share", 0.3)
    run("train", *rows, *QUICK, "--run-dir", folder / "rows")
    drift = ("--data", "drift", "--patch-size", 4, "--frames", 3, "--window", 3, "--val-share", 0.3)
    run("train", *drift, *QUICK, "--run-dir", folder / "drift")
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(filters, "MOST_STEPS", 2)


@pytest.fixture
def seen(monkeypatch):
    """What commands are like as their work begins; it is not done."""
    found = {}

    def begins(self):
        found.update(options=self, threads=torch.get_num_threads())
        raise Stop

    for kind, *_ in COMMANDS.values():
        monkeypatch.setattr(kind, "work", begins)
    return found


def begin(seen, command, *more):
    """The options of a command as its work begins."""
    _, target, needed, outputs = COMMANDS[command]
    needed = (*needed, *(("--output", outputs["output"]) if "output" in outputs else ()))
    with pytest.raises(Stop):
        run(command, target, *needed, *more)
    return seen["options"]


def test_every_command_that_computes_is_here():
    kinds = {kind for kind, *_ in COMMANDS.values()}
    assert kinds | {Report} == set(Measurement.__subclasses__())  # tests/cli/test_report.py


@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_is_said_where_it_was_written(command, capsys, tmp_path):
    kind, target, needed, outputs = COMMANDS[command]
    assert set(outputs) == set(kind.OUTPUTS) - OF_SOME
    places = {name: tmp_path / "new" / file for name, file in outputs.items()}
    run(command, target, *needed, *(part for name, path in places.items() for part in (f"--{name}", path)))
    last = capsys.readouterr().out.splitlines()[-len(places) :]
    assert last == [f"{kind.OUTPUTS[name].what} written to {path}" for name, path in places.items()]
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(outputs.values())


def test_those_that_compute_nothing_say_it_too(capsys, tmp_path):
    run("export", "rows", "--dictionary", tmp_path / "phi.npz")
    out = capsys.readouterr().out
    assert out == f"6 atoms of 16 values\ndictionary written to {tmp_path / 'phi.npz'}\n"
    run("figure", "kl-residual", "--output", tmp_path / "kl.png")
    assert capsys.readouterr().out == f"figure written to {tmp_path / 'kl.png'}\n"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "infer"])
def test_without_outputs_nothing_is_said_to_be_written(command, capsys):
    _, target, needed, _ = COMMANDS[command]
    run(command, target, *needed)
    out = capsys.readouterr().out
    assert out.count("\n") > 3
    assert "written to" not in out


@pytest.mark.parametrize(("command", "output"), [(name, out) for name in COMMANDS for out in COMMANDS[name][3]])
def test_outputs_are_checked_before_a_target_is_opened(command, output, capsys, monkeypatch, tmp_path):
    _, target, needed, outputs = COMMANDS[command]
    monkeypatch.setattr(runs, "load", lambda *_, **__: pytest.fail("opened the target"))
    suffix = outputs[output].rpartition(".")[2]
    (tmp_path / f"folder.{suffix}").mkdir()
    beside = [word for name in outputs if name != output for word in (f"--{name}", tmp_path / outputs[name])]
    with pytest.raises(SystemExit) as stopped:
        run(command, target, *needed, *beside, f"--{output}", tmp_path / f"folder.{suffix}")
    assert stopped.value.code == 2
    assert f"--{output} is {tmp_path}/folder.{suffix}, a folder; expected" in capsys.readouterr().err


@pytest.mark.parametrize("command", READING)
def test_the_data_are_those_of_the_run_and_options_overlay_them(command, folder, seen):
    kept = DataSettings(data="drift", patch_size=4, frames=3, val_share=0.3)
    if COMMANDS[command][1] == "rows":
        kept = DataSettings(data="array", data_path=folder / "x.npy", val_share=0.3)
    assert begin(seen, command).data == kept
    # 0.2 is the default of the class, and was said
    assert begin(seen, command, "--val-share", 0.2).data == kept.overlaid({"val_share": 0.2})
    assert begin(seen, command, "--val-share=0.4").data == kept.overlaid({"val_share": 0.4})
    photos = begin(seen, command, "--data", "photos").data
    assert photos == kept.overlaid({"data": "photos"})
    assert photos.data_path is None
    if kept.data == "array":
        moved = begin(seen, command, "--data-path", "other.npy").data
        assert (moved.data, str(moved.data_path), moved.val_share) == ("array", "other.npy", 0.3)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_after_a_target_shows_what_holds_for_it(command, capsys):
    kind, target, *_ = COMMANDS[command]

    def shown(*args):
        with pytest.raises(SystemExit) as stopped:
            run(command, *args, "--help-all")
        assert stopped.value.code == 0
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    plain, text = shown(), shown(target)
    assert re.match(rf"usage: itervae {command} (TARGET|RUN \.\.\.) \[-h\]", plain)
    assert (kind.__doc__ or "").split(":")[0].replace("\n    ", " ") in plain
    for option in ("--device", "--threads", "--own", "--seed"):
        assert option in plain
    if command in READING:
        share = r"held out where no validation set is named\. \(default: {}\)"
        assert re.search(share.format(r"0\.2"), plain)
        assert re.search(share.format(r"0\.3"), text)
    else:
        assert "--val-share" not in text
    assert shown("nowhere") == plain


@pytest.mark.parametrize("command", COMMANDS)
def test_device_and_threads(command, seen):
    before = torch.get_num_threads()
    for number in (1, before + 1):
        options = begin(seen, command, "--device", "cpu", "--threads", number)
        assert seen["threads"] == number
        assert options.device == torch.device("cpu")
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_classes_of_your_own_are_handed_to_the_runs(command, monkeypatch, seen):
    handed = []
    load = runs.load
    monkeypatch.setattr(runs, "load", lambda path, own=(): handed.append(list(own)) or load(path))
    begin(seen, command)
    begin(seen, command, "--own", "my_engine:Mine", "itervae.inference:LISTA")
    assert [[kind.__name__ for kind in own] for own in handed] == [[], ["Mine", "LISTA"]]
    if command in ("infer", "evaluate"):
        begin(seen, command, "--inference", "my_engine:Mine:3")
        assert handed[2][0].__name__ == "Mine"


@pytest.mark.parametrize("engine", ["lca-unrolled:3", "my_engine:Mine:3"])
def test_an_engine_and_its_steps_are_named_alike_everywhere(engine, capsys, tmp_path):
    """The LCA by its own name, and as a class of the user's own in the current folder."""
    model, own = itervae.load("rows")
    x = torch.tensor(np.load("x.npy"), dtype=torch.float32)
    expected = itervae.infer(model, own, x, steps=3).posterior.log_rate
    run("infer", "rows", "--input", "x.npy", "--output", tmp_path / "o.npz", "--inference", engine)
    np.testing.assert_allclose(np.load(tmp_path / "o.npz")["log_rate"], expected.detach(), rtol=1e-5, atol=1e-6)
    run("gap", "rows", "--engines", "lca-unrolled:3", engine, "--num", 5, "--json", tmp_path / "g.json")
    engines = json.loads((tmp_path / "g.json").read_text())["engines"]
    assert engines[engine]["steps"] == 3
    assert engines[engine]["gap_mean"] == pytest.approx(engines["lca-unrolled:3"]["gap_mean"], rel=1e-5, abs=1e-6)
    energies = []
    for name in ("lca-unrolled:3", engine):
        run("evaluate", "rows", "--suite", "reconstruction", "--inference", name, "--json", tmp_path / "e.json")
        found = json.loads((tmp_path / "e.json").read_text())["runs"]["rows"]
        assert found["inference"] == name
        energies.append(found["reconstruction"]["free_energy"])
    assert energies[0] == pytest.approx(energies[1], rel=1e-5)
    few = ("--num", 9, "--thresholds", 0.5, "--json", tmp_path / "r.json")
    errors = []
    for name in ("lca-unrolled:3", engine):
        run("rate-distortion", "rows", "--coders", f"{name}:soft", *few)
        points = json.loads((tmp_path / "r.json").read_text())["points"]
        errors += [point["error"] for point in points if point["setting"] == "θ 0.5"]
    assert len(errors) == 2
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)


def test_infer_takes_steps_of_the_runs_own_engine(tmp_path):
    for name, options in (("a", ("--steps", 4)), ("b", ("--inference", "lca-unrolled:4"))):
        run("infer", "rows", "--input", "x.npy", "--output", tmp_path / f"{name}.npz", *options)
    one, other = (np.load(tmp_path / f"{name}.npz")["log_rate"] for name in "ab")
    np.testing.assert_array_equal(one, other)


def test_the_engine_of_another_run_is_brought_by_its_folder(folder, tmp_path):
    (folder / "with, comma:2").symlink_to(folder / "rows")
    names = ["rows", "rows:1", "with, comma:2", "with, comma:2:1"]
    run("gap", "rows", "--engines", *names, "--num", 5, "--json", tmp_path / "g.json")
    engines = json.loads((tmp_path / "g.json").read_text())["engines"]
    assert list(engines) == names
    assert [engines[name]["steps"] for name in names] == [20, 1, 20, 1]


def test_a_folder_called_as_an_engine_is_named_by_its_path(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lca-unrolled").mkdir()
    (tmp_path / "optimal").symlink_to(folder / "rows")
    report = ("--num", 5, "--json", "g.json")
    run("gap", folder / "rows", "--engines", "lca-unrolled:2", "optimal", "./optimal:2", *report)
    engines = json.loads((tmp_path / "g.json").read_text())["engines"]
    assert {name: found["steps"] for name, found in engines.items()} == {
        "lca-unrolled:2": 2,
        "optimal": engines["optimal"]["steps"],
        "./optimal:2": 2,
    }
    assert engines["optimal"]["gap_max"] < 1e-6
    run("gap", folder / "rows", *report)
    assert next(iter(json.loads((tmp_path / "g.json").read_text())["engines"])) == "lca-unrolled"


@pytest.mark.parametrize(
    "form", [("--suite", "units", "sparsity"), ("--suite", "units,sparsity"), ("--suite=units,sparsity",)]
)
def test_lists_are_words_and_commas_do_too(form, seen):
    assert begin(seen, "evaluate", *form).suite == ("units", "sparsity")


def test_words_and_commas_mix(seen):
    assert begin(seen, "gap", "--engines", "rows", "lca-unrolled:3, optimal").engines == (
        "rows",
        "lca-unrolled:3",
        "optimal",
    )


def test_a_target_that_stands_last_is_found_too(capsys):
    run("gap", "--num", 5, "rows")
    run("gap", "--num", 5, "--engines", "lca-unrolled:2", "rows")
    with pytest.raises(SystemExit):
        run("gap", "--num", 5)
    assert "no target was named; expected one, before the options" in capsys.readouterr().err


def test_version(capsys):
    run("--version")
    assert re.fullmatch(
        rf"itervae \d+\.\d+\S*, torch {re.escape(torch.__version__.split('+')[0])}\S*\n", capsys.readouterr().out
    )


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "figure"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(command, "--help")
    assert stopped.value.code == 0
    first, _, summary = capsys.readouterr().out.split("\n")[:3]
    assert first.startswith(f"usage: itervae {command}")
    assert re.match(r"[A-Z][a-z]+ ", summary)
    assert callable(import_module(f"itervae.cli.{command.replace('-', '_')}").run)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_with_an_engine_of_your_own(command, folder, capsys, tmp_path):
    """No file is trusted to name code: the command line names the class again."""
    _, target, needed, outputs = COMMANDS[command]
    trained = folder / f"own-{target}"
    if not trained.exists():
        data = (
            ("--data", "array", "--data-path", "x.npy") if target == "rows" else ("--data", "drift", "--patch-size", 4)
        )
        more = () if target == "rows" else ("--frames", 3, "--window", 3)
        run("train", *data, *more, *QUICK, "--inference", "my_engine:Mine", "--run-dir", trained)
    needed = (*needed, *(("--output", tmp_path / "o.npz") if "output" in outputs else ()))
    with pytest.raises(SystemExit):
        run(command, trained, *needed)
    assert "my_engine:Mine" in (said := capsys.readouterr().err)
    assert "--own my_engine:Mine" in said
    run(command, trained, *needed, "--own", "my_engine:Mine")
    if command in ("infer", "evaluate"):
        run(command, trained, *needed, "--inference", "my_engine:Mine:2")  # which counts too


@pytest.mark.parametrize("name", ["checkpoint_best.pt", "config.yaml", "summary.json", "metrics.jsonl"])
def test_no_output_replaces_a_file_of_a_run(name, capsys, tmp_path):
    for own in ("config.yaml", name):
        (tmp_path / own).write_bytes(b"as it was")
    with pytest.raises(SystemExit):
        cli.main(["gap", str(tmp_path), "--json", str(tmp_path / name)])
    assert f"{name}, a file of the run in that folder; expected another name" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == b"as it was"
