"""What an extension costs: one file and one line of a registry. Each is written outside of the
package, listed, trained from Python and on the command line, and loaded."""

import sys
from importlib import import_module

import pytest
import torch

import itervae
from itervae import InputError
from itervae.cli import main
from itervae.data import SOURCES, DataSettings
from itervae.model import MODELS, PoissonVAESettings, build_model
from itervae.sequence import CARRYOVERS, SequenceSettings
from itervae.training import LAST, RunSettings, TrainingSettings, read_checkpoint, train_run

CARRYOVER = '''
from dataclasses import dataclass

import torch
from torch import nn

from itervae.sequence import Carryover


@dataclass
class FadingSettings:
    half_life: float = 3.0
    """Frames after which half of the past is forgotten."""


class Fading(Carryover):
    """u_t = w u_{t-1} + (1 - w) u_static, with one weight for all."""

    Settings = FadingSettings

    def __init__(self, size, half_life=3.0):
        super().__init__(size)
        self.logit = nn.Parameter(torch.tensor(0.5 ** (1 / half_life)).logit())

    def parameters_of(self, static, past, memory):
        return torch.lerp(static.expand_as(past), past, self.logit.sigmoid().to(past.dtype))
'''

FAMILY = '''
import math
from dataclasses import dataclass

import torch

from itervae.distributions import Laplace
from itervae.model import Prior, VAESettings


class Wide(Laplace):
    """A Laplace distribution by another name."""


class WidePrior(Prior):
    """Laplace distributions of a scale that is given."""

    capabilities = frozenset({"variational posterior"})

    def __init__(self, latents, scale):
        super().__init__(latents)
        self.register_buffer("u", torch.cat([torch.zeros(latents), torch.full((latents,), math.log(scale))]))

    def posterior(self, u, temperature=0.0):
        return Wide(u)

    def forward(self):
        return Wide(self.u)


@dataclass
class WideVAESettings(VAESettings):
    width: float = 2.0
    """Scale of the prior."""

    def build_prior(self):
        return WidePrior(self.latents, self.width)
'''

SOURCE = '''
import torch

from itervae.data import SourceKind
from itervae.data.source import RowSource, held_out


def load_ramps(settings, seed, device, fitted):
    """Forty rows of six numbers that rise."""
    rows = torch.linspace(0, 1, 6) * torch.linspace(1, 2, 40)[:, None]
    train, validation = held_out(len(rows), settings.val_share, "rows")
    return RowSource("ramps", (6,), rows[train], rows[validation], seed, device=device)


RAMPS = SourceKind(load_ramps, reads=("val_share",))
'''

SMALL = ["--latents", "4", "--updates", "3", "--batch-size", "8", "--validate-every", "2", "--device", "cpu"]
TRAINING = TrainingSettings(updates=3, batch_size=8, validate_every=2, device="cpu")


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a module outside of the package, and imports it."""
    names = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return import_module(name)

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in names:
        sys.modules.pop(name, None)


def refused(args, capsys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", *args, "--run-dir", "nowhere"])
    return capsys.readouterr().err


@pytest.mark.slow
def test_a_carryover(written, monkeypatch, tmp_path, capsys):
    module = written("carryover_of_mine", CARRYOVER)
    monkeypatch.setitem(CARRYOVERS, "fading", module.Fading)
    data = DataSettings(data="drift", patch_size=6, frames=4)
    settings = RunSettings(
        data=data,
        model=PoissonVAESettings(latents=4),
        training=TRAINING,
        sequence=SequenceSettings(carryover="fading", window=2),
        carryover=module.FadingSettings(half_life=1.0),
    )
    train_run(settings, tmp_path / "python")
    loaded = itervae.load(tmp_path / "python")
    assert loaded.settings == settings
    assert type(loaded.carryover) is module.Fading
    assert loaded.carryover.logit != 0  # trained from log(0.5 / 0.5)

    drift = ["--data", "drift", "--patch-size", "6", "--frames", "4", "--window", "2", *SMALL]
    args = ["train", *drift, "--carryover", "fading", "--half-life", "1.0", "--run-dir", str(tmp_path / "command")]
    main(args)
    again = itervae.load_sequence(tmp_path / "command")[2]
    assert torch.equal(again.logit, loaded.carryover.logit)
    main(["train", "--resume", str(tmp_path / "command"), "--updates", "4"])
    assert read_checkpoint(tmp_path / "command" / LAST)["config"]["half_life"] == 1.0
    assert "--half-life does not apply to carryover leaky" in refused(
        [*drift, "--carryover", "leaky", "--half-life", "3"], capsys
    )


def test_a_family(written, monkeypatch, tmp_path, capsys):
    module = written("family_of_mine", FAMILY)
    monkeypatch.setitem(MODELS, "wide-vae", module.WideVAESettings)
    settings = RunSettings(
        "amortized",
        DataSettings(patch_size=6),
        module.WideVAESettings(latents=4, width=3.0),
        None,
        TRAINING,
    )
    train_run(settings, tmp_path / "python")
    loaded = itervae.load(tmp_path / "python")
    assert loaded.settings == settings
    assert loaded.model.prior.name == "wide"
    torch.testing.assert_close(loaded.model.prior().variance, torch.full((4,), 2 * 3.0**2))  # of a Laplace law: 2 S²
    args = ["--family", "wide", "--width", "3", "--patch-size", "6", *SMALL]
    main(["train", *args, "--run-dir", str(tmp_path / "command")])
    model, _ = itervae.load(tmp_path / "command")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.model.state_dict().items())
    assert "--width does not apply to model laplace-vae" in refused(["--family", "laplace", "--width", "3"], capsys)
    with pytest.raises(InputError, match="`latents` is 0"):
        build_model(module.WideVAESettings(latents=0), (6,))


def test_data(written, monkeypatch, tmp_path, capsys):
    module = written("data_of_mine", SOURCE)
    monkeypatch.setitem(SOURCES, "ramps", module.RAMPS)
    settings = RunSettings(
        data=DataSettings(data="ramps", val_share=0.25), model=PoissonVAESettings(latents=4), training=TRAINING
    )
    train_run(settings, tmp_path / "python")
    model, engine = run = itervae.load(tmp_path / "python")
    inputs = itervae.load(tmp_path / "python").prepare(torch.rand(5, 6))
    assert itervae.infer(model, engine, inputs.x).posterior.mean.shape == (5, 4)
    assert run.settings == settings
    args = ["--data", "ramps", "--val-share", "0.25", *SMALL]
    main(["train", *args, "--run-dir", str(tmp_path / "command")])
    again, _ = itervae.load(tmp_path / "command")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert "--patch-size 16 does not apply to --data ramps" in refused([*args, "--patch-size", "16"], capsys)
    assert "--window is for sequences, and --data ramps has no order" in refused([*args, "--window", "2"], capsys)
