"""An engine and a decoder of a user's own, outside of the package: trained, resumed and loaded,
from Python and on the command line; what a file names is never imported."""

import sys
from importlib import import_module

import numpy as np
import pytest
import torch

import itervae
from itervae import InputError
from itervae.cli import main
from itervae.config import parse_train
from itervae.data import DataSettings
from itervae.evaluation import amortization_gap
from itervae.inference import Engine
from itervae.model import PoissonVAESettings
from itervae.training import LAST, RunSettings, TrainingSettings, read_checkpoint, train_run

MODULE = '''
import math
from dataclasses import dataclass

import torch
from torch import nn

from itervae.inference import Engine, State


@dataclass
class DampedSettings:
    steps: int = 20
    rate: float = 0.01


class Damped(Engine):
    """Gradient descent in log-rates, with a scale that is learned."""

    requires = frozenset({"Poisson family"})
    learned = True
    Settings = DampedSettings

    def __init__(self, steps=20, rate=0.01):
        super().__init__()
        self.steps, self.rate = steps, rate
        self.log_scale = nn.Parameter(torch.zeros(()))

    def init(self, problem, state):
        u = problem.start() if state is None else state.u
        return State(u, {}, problem.energy.evaluate(u))

    def step(self, problem, state):
        slope = state.point.gradient * state.point.mean
        u = state.u - self.rate * self.log_scale.exp() * slope
        return State(u, {}, problem.energy.evaluate(u))


class Plain(Damped):
    """One without settings."""

    Settings = Engine.Settings


@dataclass
class Clashing:
    lr: float = 0.1


class Clash(Damped):
    Settings = Clashing


class Scaled(nn.Module):
    """A decoder: softplus of a linear map."""

    def __init__(self, shape, latents):
        super().__init__()
        self.map = nn.Linear(latents, math.prod(shape))

    def forward(self, z):
        return nn.functional.softplus(self.map(z))


class Demanding(nn.Module):
    def __init__(self, shape, latents, width):
        super().__init__()
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The name of a module of the user's, in the current folder and not imported."""
    monkeypatch.chdir(tmp_path)
    name = "engines_of_mine"
    (tmp_path / f"{name}.py").write_text(MODULE)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 6)).astype("float32"))
    forget(name)
    yield name
    forget(name)


def forget(name):
    sys.modules.pop(name, None)


def imported(name, monkeypatch, folder):
    monkeypatch.syspath_prepend(folder)
    return import_module(name)


def options(folder, **model):
    return (
        DataSettings(data="array", data_path=folder / "x.npy"),
        PoissonVAESettings(latents=5, **model),
        TrainingSettings(updates=3, batch_size=10, validate_every=2, device="cpu", threads=1),
    )


ARGS = [
    "train", "--data", "array", "--data-path", "x.npy", "--latents", "5", "--updates", "3", "--batch-size", "10",
    "--validate-every", "2", "--device", "cpu", "--threads", "1",
]  # fmt: skip


def refused(args, capsys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_in_python(mine, monkeypatch, tmp_path, capsys):
    module = imported(mine, monkeypatch, tmp_path)
    data, model, training = options(tmp_path, decoder=module.Scaled)
    settings = RunSettings(module.Damped, data, model, module.DampedSettings(steps=3, rate=0.02), training)
    assert settings.engine_name == f"{mine}:Damped"
    train_run(settings, tmp_path / "run")
    config = read_checkpoint(tmp_path / "run" / LAST)["config"]
    assert (config["inference"], config["decoder"]) == (f"{mine}:Damped", f"{mine}:Scaled")
    assert (config["steps"], config["rate"]) == (3, 0.02)

    own = [module.Damped, module.Scaled]
    run = itervae.load(tmp_path / "run", own=own)
    assert type(run.engine) is module.Damped
    assert type(run.model.decoder) is module.Scaled
    assert (run.engine.steps, run.engine.rate) == (3, 0.02)
    assert run.engine.log_scale != 0  # trained
    assert run.settings == settings.located()
    x = torch.as_tensor(np.load("x.npy"))
    found = itervae.infer(run.model, run.engine, x)
    energy = run.model.free_energy(x, found.posterior).total
    assert energy.shape == (40,)
    assert energy.isfinite().all()

    longer = RunSettings(
        module.Damped, data, model, settings.engine, TrainingSettings(**{**vars(training), "updates": 5})
    )
    assert train_run(longer, tmp_path / "run", resume=True).updates == 5
    uninterrupted = train_run(longer, tmp_path / "other")
    assert uninterrupted.updates == 5

    with pytest.raises(InputError, match=rf"{mine}:Damped.*own=\[Damped\].*--own {mine}:Damped"):
        itervae.load(tmp_path / "run")
    with pytest.raises(InputError, match=rf"{mine}:Scaled"):
        itervae.load(tmp_path / "run", own=[module.Damped])


def test_the_gap_of_an_engine_of_ones_own(mine, monkeypatch, tmp_path):
    module = imported(mine, monkeypatch, tmp_path)
    data, model, training = options(tmp_path)
    train_run(RunSettings(f"{mine}:Damped", data, model, None, training), tmp_path / "run")
    model, engine = itervae.load(tmp_path / "run", own={module.Damped})
    report = amortization_gap(model, {"mine": (engine, None)}, torch.as_tensor(np.load("x.npy")))
    gap = report.engines["mine"]
    assert gap.steps == 20
    assert gap.gap_mean >= -1e-5
    assert gap.free_energy_mean > 0


def test_loading_without_the_class_imports_nothing(mine, tmp_path):
    main([*ARGS, "--inference", f"{mine}:Damped", "--decoder", f"{mine}:Scaled", "--run-dir", "run"])
    forget(mine)
    with pytest.raises(InputError, match=f"names a class of your own, {mine}:Damped, and files are never trusted"):
        itervae.load("run")
    assert mine not in sys.modules

    class Damped(Engine):  # of the same name, from elsewhere
        pass

    with pytest.raises(InputError, match="hand the class over"):
        itervae.load("run", own=[Damped])
    for own in (Damped, "Damped", [Damped()], 3):
        with pytest.raises(InputError, match=r"own (is|holds) .*expected"):
            itervae.load("run", own=own)
    assert mine not in sys.modules


def test_on_the_command_line(mine, tmp_path, capsys):
    own = ["--inference", f"{mine}:Damped:4", "--decoder", f"{mine}:Scaled", "--rate", "0.02"]
    main([*ARGS, *own, "--run-dir", "run"])
    config = read_checkpoint(tmp_path / "run" / LAST)["config"]
    assert (config["inference"], config["decoder"]) == (f"{mine}:Damped", f"{mine}:Scaled")
    assert (config["steps"], config["rate"]) == (4, 0.02)
    forget(mine)

    again = ["train", "--resume", "run", "--updates", "5"]
    said = refused(again, capsys)
    assert f"{mine}:Damped" in said
    assert f"--own {mine}:Damped" in said
    assert mine not in sys.modules
    assert f"{mine}:Scaled" in refused([*again, "--inference", f"{mine}:Damped"], capsys)
    main([*again, "--own", f"{mine}:Damped", f"{mine}:Scaled"])
    assert read_checkpoint(tmp_path / "run" / LAST)["update"] == 5
    forget(mine)
    main(["train", "--resume", "run", "--updates", "6", "--inference", f"{mine}:Damped", "--decoder", f"{mine}:Scaled"])
    assert read_checkpoint(tmp_path / "run" / LAST)["update"] == 6
    assert "the run has" in refused([*again, "--inference", f"{mine}:Plain", "--own", f"{mine}:Damped",
                                     f"{mine}:Scaled"], capsys)  # fmt: skip

    forget(mine)
    said = refused(["train", "--config", "run/config.yaml", "--run-dir", "new"], capsys)
    assert f"--own {mine}:Damped" in said
    assert mine not in sys.modules
    main(["train", "--config", "run/config.yaml", "--run-dir", "new", "--own", f"{mine}:Damped", f"{mine}:Scaled"])
    assert read_checkpoint(tmp_path / "new" / LAST)["config"]["rate"] == 0.02


def test_a_frozen_run_of_ones_own(mine, tmp_path, capsys):
    main([*ARGS, "--inference", f"{mine}:Damped", "--decoder", f"{mine}:Scaled", "--run-dir", "run"])
    args = [arg for arg in ARGS if arg not in ("--latents", "5")]
    args += ["--inference", "semi-amortized", "--steps", "2", "--freeze", "run", "--run-dir", "frozen"]
    forget(mine)
    assert f"--own {mine}:Damped" in refused(args, capsys)
    assert mine not in sys.modules
    main([*args, "--own", f"{mine}:Damped", f"{mine}:Scaled"])
    scaled = import_module(mine).Scaled if mine in sys.modules else None
    frozen, before = itervae.load("frozen", own=[scaled]), itervae.load("run", own=[scaled, import_module(mine).Damped])
    for name, value in before.model.state_dict().items():
        assert torch.equal(frozen.model.state_dict()[name], value)


def test_an_engine_without_settings_and_those_that_do_not_fit(mine, monkeypatch, tmp_path, capsys):
    main([*ARGS, "--inference", f"{mine}:Plain", "--run-dir", "plain"])
    module = import_module(mine)
    assert itervae.load("plain", own=[module.Plain]).engine.steps == 20
    for own, said in (
        (["--inference", f"{mine}:Plain", "--rate", "1"], "--rate is not a setting"),
        (["--inference", f"{mine}:Plain", "--tied"], f"does not apply to inference {mine}:Plain"),
        (["--inference", f"{mine}:Plain:3"], "--steps does not apply"),
        (["--inference", f"{mine}:Damped:3", "--steps", "4"], "leave one of the numbers of steps out"),
        (["--inference", "lista:3", "--steps", "4"], "leave one of the numbers of steps out"),
        (["--inference", "lista:x"], "expected ENGINE:STEPS with a whole number"),
        (["--inference", f"{mine}:Clash"], "has a setting 'lr', which is an option of itervae train already"),
        (["--inference", f"{mine}:Missing"], "expected a class in"),
        (["--inference", "nowhere_at_all:Damped"], "there is no module 'nowhere_at_all'"),
        (["--inference", f"{mine}:Scaled"], "expected a class in"),
        (["--decoder", "json:JSONDecoder"], "expected a class in json that is a Module"),
        (["--decoder", f"{mine}:Demanding"], "expected Demanding(shape, latents)"),
        (["--decoder", "liner"], "did you mean linear"),
        (["--own", "nonsense"], "'nonsense'"),
    ):
        assert said in refused([*ARGS, *own, "--run-dir", "other"], capsys)
    data, model, training = options(tmp_path)
    for kind in (module.Scaled, int, 3, module.Damped()):
        with pytest.raises(InputError, match="inference"):
            RunSettings(kind, data, model, None, training)


def test_steps_beside_the_name_of_an_engine(tmp_path):
    settings, _, _ = parse_train(["--inference", "lista:3"])
    assert (settings.inference, settings.engine.steps) == ("lista", 3)
    (tmp_path / "config.yaml").write_text("inference: lista:4\n")
    settings, _, _ = parse_train(["--config", str(tmp_path / "config.yaml")])
    assert (settings.inference, settings.engine.steps) == ("lista", 4)
    settings, _, _ = parse_train(["--config", str(tmp_path / "config.yaml"), "--steps", "7"])
    assert settings.engine.steps == 7


def test_modules_that_cannot_be_imported_are_told_in_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    engine = "from itervae.inference import Engine\n"
    (tmp_path / "broken_syntax.py").write_text("def x(:\n")
    (tmp_path / "broken_import.py").write_text("import nothing_here_xyz\n")
    (tmp_path / "broken_name.py").write_text(f"{engine}\n\nvalue = unknown\n")
    (tmp_path / "unwritten.py").write_text(
        f"{engine}class Half(Engine):\n    steps = 3\n    def init(self, problem, state): ...\n"
    )
    (tmp_path / "wrong_shape.py").write_text(
        "from torch import nn\n\n\nclass Square(nn.Sequential):\n"
        "    def __init__(self, shape, latents):\n"
        "        super().__init__(nn.Linear(latents, 256), nn.Unflatten(-1, (16, 16)))\n"
    )
    for args, message in (
        (["--inference", "broken_syntax:X"], "line 1: SyntaxError"),
        (["--inference", "broken_import:X"], "ModuleNotFoundError: No module named 'nothing_here_xyz'"),
        (["--inference", "broken_name:X"], "line 4: NameError"),
        (
            ["--inference", "unwritten:Hal"],
            "unwritten has no class Hal; did you mean Half? expected a",
        ),
        (["--inference", "unwritten:Half"], "Half does not write step"),
        (["--inference", "unwritten:"], "'unwritten:' names no class; expected MODULE:CLASS"),
        (["--decoder", "wrong_shape:Square"], r"Square gives (2, 16, 16) for z of (2, 512); expected (2, 256)"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["train", *args, "--run-dir", "run"])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "run").exists()
