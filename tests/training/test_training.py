"""Runs: what they leave, that they learn, that they go on exactly where they stopped."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

import itervae
from itervae import InputError
from itervae.data import DataSettings
from itervae.inference import ENGINES, FISTAUnrolled, certificate, infer
from itervae.model import GaussianVAESettings, LaplaceVAESettings, PoissonVAESettings
from itervae.training import (
    BEST,
    LAST,
    RunSettings,
    TrainingSettings,
    load_settings,
    read_checkpoint,
    train_run,
    write_checkpoint,
)
from itervae.training.checkpoint import build


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Sparse data with a known dictionary: 600 rows of 20 values, two of 16 random atoms each."""
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(20, 16)) / math.sqrt(20)
    counts = np.zeros((600, 16))
    for row in counts:
        row[rng.choice(16, 2, replace=False)] = rng.integers(1, 4, 2)
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, 3 * counts @ atoms.T)
    return path


def settings(rows, inference="lca-unrolled", engine=None, model=None, **training):
    if inference == "lca-unrolled" and engine is None:
        engine = {"steps": 4}
    training = {"updates": 30, "batch_size": 50, "validate_every": 10, "device": "cpu", "lr": 0.02, **training}
    return RunSettings(
        inference,
        DataSettings(data="array", data_path=rows),
        PoissonVAESettings(**{"latents": 16, **(model or {})}),
        ENGINES[inference].Settings(**(engine or {})),
        TrainingSettings(**training),
    )


def validation(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == "validation"]


@pytest.mark.usefixtures("pictures")
def test_a_run_leaves_everything(rows, tmp_path):
    run = tmp_path / "run"
    summary = train_run(settings(rows), run)
    names = {file.name for file in run.iterdir()}
    expected = "config.yaml checkpoint_last.pt checkpoint_best.pt metrics.jsonl summary.json dictionary.png"
    assert set(expected.split()) | {"reconstructions.png", "samples.png", "curves.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".tmp") for name in names)
    assert summary.finished
    assert summary.updates == 30
    assert [line["update"] for line in validation(run)] == [10, 20, 30]
    assert json.loads((run / "summary.json").read_text())["validation"] == summary.validation
    flat = yaml.safe_load((run / "config.yaml").read_text())
    assert RunSettings.from_flat(flat) == settings(rows) == load_settings(read_checkpoint(run / LAST))


def test_tensorboard_events_can_be_read(rows, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_run(settings(rows), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert {"train/free_energy", "validation/free_energy", "train/residual"} <= set(events.Tags()["scalars"])
    assert "log10_mean" in events.Tags()["histograms"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("inference", "extra"),
    [
        ("lca-unrolled", {"engine": {"steps": 5}}),
        ("lca-unrolled", {"gradient": "unroll", "engine": {"steps": 5}}),
        ("fista-unrolled", {"gradient": "truncate", "truncate_steps": 2, "engine": {"steps": 5}}),
        pytest.param("ista-unrolled", {"gradient": "checkpoint", "engine": {"steps": 5}}, marks=pytest.mark.slow),
        ("lca-unrolled", {"gradient": "implicit", "engine": {"steps": 5}}),
        pytest.param("optimal", {"batch_size": 10}, marks=pytest.mark.slow),
        ("lista", {"loss": "steps", "engine": {"steps": 2}}),
        pytest.param(
            "recurrent", {"loss": "steps", "gradient": "checkpoint", "engine": {"steps": 2}}, marks=pytest.mark.slow
        ),
        ("semi-amortized", {"engine": {"steps": 1}}),
        ("lca-ode", {"engine": {"steps": 3}}),
        ("spiking-lca", {"engine": {"steps": 4}}),
        ("amortized", {}),
        ("amortized", {"estimator": "eat", "beta_ramp": 0.5}),
        ("amortized", {"estimator": "straight-through", "samples": 2}),
        ("amortized", {"estimator": "eat-then-straight-through"}),
    ],
)
def test_every_way_of_training_learns(rows, tmp_path, inference, extra):
    """The free energy (at β = 1) of the last batches is well below that of the first.

    Of training batches: a one-shot encoder this small blows up on some held-out rows, which is what
    itervae is about.
    """
    extra = {"updates": 80, "batch_size": 30, "validate_every": 80, **extra}
    train_run(settings(rows, inference, **extra), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    energies = [line["reconstruction"] + line["kl"] for line in lines if line["split"] == "train"]
    assert len(energies) == 4
    assert sum(energies[-2:]) / 2 < 0.9 * energies[0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("inference", ["recurrent", "semi-amortized"])
@pytest.mark.parametrize(
    ("decoder", "family"), [("mlp", PoissonVAESettings), ("mlp", GaussianVAESettings), ("linear", LaplaceVAESettings)]
)
def test_learned_engines_train_with_any_decoder_and_family(rows, tmp_path, inference, decoder, family):
    chosen = settings(rows, inference, {"steps": 2}, updates=60, validate_every=60, loss="steps", lr=0.015)
    run = RunSettings(inference, chosen.data, family(latents=8, decoder=decoder), chosen.engine, chosen.training)
    train_run(run, tmp_path / "run")
    assert math.isfinite(validation(tmp_path / "run")[-1]["free_energy"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    energies = [line["free_energy"] for line in lines if line["split"] == "train"]
    assert sum(energies[-2:]) / 2 < 0.95 * energies[0]


@pytest.mark.slow
def test_distillation_closes_the_gap_of_a_frozen_model(rows, tmp_path):
    """On the distance to the best posterior, where F and the model's parameters take no part."""
    train_run(settings(rows, updates=40), tmp_path / "model")
    frozen = {"freeze": tmp_path / "model", "updates": 40, "batch_size": 25, "validate_every": 40, "lr": 0.02}
    run = settings(rows, "lista", {"steps": 2}, target="optimal-rates", **frozen)
    train_run(run, tmp_path / "run")
    model, engine = itervae.load(tmp_path / "run")
    kept, _ = itervae.load(tmp_path / "model")
    assert all(torch.equal(value, kept.state_dict()[name]) for name, value in model.state_dict().items())
    x = torch.tensor(np.load(rows), dtype=torch.float32)[-60:]
    with torch.no_grad():
        gap = [
            certificate(model, x, infer(model, some, x, steps=2).posterior).mean() for some in (engine, FISTAUnrolled())
        ]
    assert gap[0] < 0.7 * gap[1]


@pytest.mark.slow
def test_iterative_inference_recovers_the_dictionary(rows, tmp_path):
    """Two active atoms of sixteen: most learned atoms point along a true one."""
    train_run(
        settings(rows, engine={"steps": 20}, updates=1500, batch_size=100, validate_every=1500, lr=0.03),
        tmp_path / "run",
    )
    model, _ = itervae.load(tmp_path / "run")
    rng = np.random.default_rng(0)
    atoms = torch.tensor(rng.normal(size=(20, 16)) / math.sqrt(20), dtype=torch.float32)
    learned = model.dictionary.detach()
    cosine = (atoms / atoms.norm(dim=0)).T @ (learned / learned.norm(dim=0))
    assert (cosine.max(1).values > 0.95).float().mean() > 0.8


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("inference", ["amortized", "spiking-lca"])
def test_resume_is_exact(rows, tmp_path, inference):
    """40 updates at once equal 40 updates interrupted after 16, bit for bit, sampled losses
    included."""
    extra = {"updates": 40, "estimator": "eat", "beta_ramp": 0.5, "validate_every": 10}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_run(settings(rows, inference, **extra), whole)

    from itervae.training import start

    class Stop(start.Interrupt):
        """Asks to stop when the run has asked 17 times whether it should: 16 updates and one
        validation."""

        def __init__(self, **options):
            self.count = 0

        @property
        def asked(self):
            self.count += 1
            return self.count > 17

        @asked.setter
        def asked(self, value):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "Interrupt", Stop)
        stopped = train_run(settings(rows, inference, **extra), parts)
    assert not stopped.finished
    assert stopped.updates == 16
    train_run(settings(rows, inference, **extra), parts, resume=True)
    a, b = read_checkpoint(whole / LAST), read_checkpoint(parts / LAST)
    for part in ("model", "engine"):
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part])
    assert torch.equal(a["generator"], b["generator"])
    assert a["best"] == b["best"]

    def numbers(run):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k not in ("seconds", "data_per_s")} for line in lines]

    assert numbers(whole) == numbers(parts)


def test_metrics_of_a_killed_run_are_cut_at_its_checkpoint(rows, tmp_path):
    run = tmp_path / "run"
    train_run(settings(rows, updates=20), run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"split": "train", "update": 25, "free_energy": 1}\n{"split": "tra')
    resumed = settings(rows, updates=40)
    train_run(resumed, run, resume=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if line["split"] == "validation"] == [10, 20, 30, 40]
    assert all(line["update"] != 25 for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_a_run_killed_in_its_last_validation_is_finished_by_resuming(rows, tmp_path, monkeypatch):
    from itervae.training import session

    whole, run = tmp_path / "whole", tmp_path / "run"
    expected = train_run(settings(rows, updates=20), whole)
    validate = session.validate

    def killed(*args):
        if read_checkpoint(run / LAST)["update"] == 20:
            raise SystemExit
        return validate(*args)

    monkeypatch.setattr(session, "validate", killed)
    with pytest.raises(SystemExit):
        train_run(settings(rows, updates=20), run)
    assert not (run / "summary.json").exists()
    monkeypatch.setattr(session, "validate", validate)
    summary = train_run(settings(rows, updates=20), run, resume=True)
    assert summary.finished
    assert summary.updates == 20
    assert summary.validation == expected.validation
    assert (run / BEST).is_file()
    assert (run / "curves.png").is_file()
    with pytest.raises(InputError, match="has ended"):
        train_run(settings(rows, updates=20), run, resume=True)


def test_a_diverging_run_says_so_and_keeps_the_last_good_checkpoint(rows, tmp_path, monkeypatch):
    from itervae.training import start

    load_source = start.load_source

    def poisoned(*args):
        source = load_source(*args)
        batch = source.batch
        source.batch = lambda index, *rest: batch(index, *rest) * (1e20 if index == 15 else 1.0)
        return source

    monkeypatch.setattr(start, "load_source", poisoned)
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"diverged at update 15: .*go on from .*checkpoint_last.pt"):
        train_run(settings(rows), run)
    assert read_checkpoint(run / LAST)["update"] == 10
    facts = json.loads((run / "failure.json").read_text())
    assert facts["update"] == 15
    assert facts["batch"]["max"] > 1e19
    itervae.load(run)


@pytest.mark.usefixtures("unchecked")
def test_finished_runs_and_changed_data_are_not_resumed(rows, tmp_path):
    run = tmp_path / "run"
    data = tmp_path / "x.npy"
    data.write_bytes(rows.read_bytes())
    train_run(settings(data), run)
    before = (run / "metrics.jsonl").read_text()
    with pytest.raises(InputError, match=r"has ended, after 30 updates.*larger budget"):
        train_run(settings(data), run, resume=True)
    assert (run / "metrics.jsonl").read_text() == before
    np.save(data, np.load(rows) + 1)
    with pytest.raises(InputError, match="have changed since its checkpoint"):
        train_run(settings(data, updates=40), run, resume=True)


@pytest.mark.usefixtures("unchecked")
def test_a_clock_budget_goes_on_where_it_stopped(rows, tmp_path, monkeypatch):
    """With a clock that ticks at every look, half of a larger budget is behind on resuming: no
    second warm-up."""
    from itervae.training import session

    ticks = itertools.count()
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: 0.01 * next(ticks)))
    run = tmp_path / "run"
    first = train_run(settings(rows, updates=None, minutes=0.02, validate_every=10_000), run)
    assert first.finished
    second = train_run(settings(rows, updates=None, minutes=0.04, validate_every=10_000), run, resume=True)
    assert second.seconds >= 2.4
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if line["split"] == "train" and line["update"] > first.updates]
    assert len(rates) >= 2
    assert max(rates) < 0.6 * 0.02


def test_best_is_the_least_free_energy_after_the_ramp(rows, tmp_path):
    run = tmp_path / "run"
    train_run(settings(rows, updates=60, beta_ramp=0.5, lr=0.3), run)
    after = [line for line in validation(run) if line["update"] >= 30]
    best = min(after, key=lambda line: line["free_energy"])
    saved = read_checkpoint(run / "checkpoint_best.pt")
    assert saved["update"] == best["update"]
    assert saved["best"] == best["free_energy"]
    assert saved["model"]["beta"] == 1
    assert read_checkpoint(run / LAST)["model"]["beta"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.usefixtures("pictures")
def test_nonlinear_decoders_train_at_the_default_rate(rows, tmp_path):
    """LCA by sampled gradients, in mixed precision, at the learning rate that a user gets."""
    extra = {"engine": {}, "lr": None, "mixed_precision": True, "updates": 60}
    summary = train_run(settings(rows, model={"decoder": "mlp"}, **extra), tmp_path / "run")
    lines = validation(tmp_path / "run")
    assert summary.validation["free_energy"] < lines[0]["free_energy"]
    text = (tmp_path / "run" / "summary.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["validation"]
    pictures = {path.name for path in (tmp_path / "run").glob("*.png")}
    assert pictures == {"reconstructions.png", "samples.png", "curves.png"}  # there is no dictionary


def test_checkpoints_are_safe(rows, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train_run(settings(rows), run)
    path = run / LAST
    before = path.read_bytes()

    def full_disk(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(InputError, match=r"No space left on device"):
        train_run(settings(rows, updates=40), run, resume=True)
    with pytest.raises(InputError, match=r"No space left on device.*earlier checkpoint, if any, is intact"):
        write_checkpoint(path, {})
    assert path.read_bytes() == before
    assert not list(run.glob(".*.tmp"))
    monkeypatch.undo()

    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(InputError, match=r"truncated or corrupt .*use .*checkpoint_best.pt; a copy of it"):
        read_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is no checkpoint"):
        read_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="not an itervae checkpoint"):
        read_checkpoint(path)
    with pytest.raises(InputError, match="there is no checkpoint"):
        itervae.load(tmp_path / "nowhere")


def test_loaded_run_infers_as_the_run_did(rows, tmp_path):
    summary = train_run(settings(rows, "amortized"), tmp_path / "run")
    model, engine = itervae.load(tmp_path / "run" / LAST)
    from itervae.data import load_source

    x = load_source(DataSettings(data="array", data_path=rows), 0).validation
    posterior = itervae.infer(model, engine, x).posterior
    mean = model.free_energy(x, posterior).total.mean().item()
    assert mean == pytest.approx(summary.validation["free_energy"], rel=1e-6)
    assert certificate(model, x, posterior).mean().item() == pytest.approx(summary.validation["certificate"], rel=1e-5)


def test_settings_that_do_not_fit_are_refused(rows, tmp_path):
    for wrong, message in (
        (settings(rows, "amortized", gradient="envelope"), "does not apply to amortized, whose gradient has one way"),
        (settings(rows, "optimal", gradient="unroll"), "does not apply to optimal"),
        (settings(rows, "amortized", gradient="implicit"), "does not apply to amortized, whose gradient has one way"),
        (settings(rows, "lista", gradient="implicit"), "gives the parameters of lista no gradient"),
        (settings(rows, gradient="implicit", model={"decoder": "mlp"}), "with a MLPDecoder under a GaussianLikelihood"),
        (settings(rows, truncate_steps=3), "`truncate_steps=3` needs `gradient=truncate`"),
        (settings(rows, samples=3), "`samples=3` does not apply to the exact free energy"),
        (settings(rows, estimator="exact", model={"decoder": "mlp"}), "`estimator=exact` needs a linear decoder"),
        (settings(rows, updates=0), "`updates` is 0; expected a positive number"),
        (settings(rows, lr=-1.0), "`lr` is -1.0"),
        (settings(rows, beta_ramp=1.5), "`beta_ramp` is 1.5"),
        (settings(rows, temperature=0.0, estimator="eat"), "`temperature` is 0.0"),
        (settings(rows, device="gpu7"), "device 'gpu7' is not available here"),
        (settings(rows, model={"likelihood": "bernoulli"}, inference="amortized"), r"needs data in \[0, 1\]"),
        (settings(rows, "fista-unrolled", model={"decoder": "mlp"}), "engines that fit: amortized, lca-unrolled"),
    ):
        with pytest.raises(InputError, match=message):
            train_run(wrong, tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("inference", "model", "start"),
    [
        ("lca-unrolled", {}, -5.0),
        ("amortized", {}, -1.0),
        ("lca-unrolled", {"decoder": "mlp"}, -1.0),
        ("amortized", {"start_log_rate": -4.0}, -4.0),
        ("lca-unrolled", {"start_log_rate": 2.0}, 2.0),
    ],
)
def test_where_prior_log_rates_start(rows, inference, model, start):
    built, _ = build(settings(rows, inference, model={**model, "latents": 400}), (20,))
    log_rate = built.prior.log_rate
    assert start - 1 <= log_rate.min()
    assert log_rate.max() <= start + 1
    assert log_rate.mean().item() == pytest.approx(start, abs=0.1)


def test_a_start_out_of_range_is_refused(rows):
    with pytest.raises(InputError, match="`start_log_rate` is 50"):
        build(settings(rows, model={"start_log_rate": 50.0}), (20,))
