"""Settings: one name, one meaning; choices that are what is registered; what was given is known;
files of earlier versions."""

import re
from collections.abc import MutableMapping
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch
import yaml

import itervae
from itervae import InputError
from itervae.arguments import OneOf, listed
from itervae.cli import main
from itervae.config import parse_train
from itervae.data import SOURCES, DataSettings
from itervae.distributions import ACTIVATIONS, INDICATORS
from itervae.errors import as_options
from itervae.inference import ENGINES, GRADIENTS
from itervae.inference.settings import AmortizedSettings
from itervae.model import DECODERS, ESTIMATORS, MODELS, GaussianVAESettings, PoissonVAESettings, SparseCodingSettings
from itervae.sequence import CARRYOVERS, STARTS, LinearMapSettings, SequenceSettings
from itervae.training import LAST, RunSettings, TrainingSettings, read_checkpoint, train_run, write_checkpoint
from itervae.training.choices import check_settings
from itervae.training.groups import COMMAND_NAMES, groups_of
from itervae.training.options import DEFAULTS, HARD_LATE


def test_the_names_of_all_groups_differ():
    """Whatever engine, model and carryover a run has: its settings are written side by side."""
    for engine, model, carryover in product(ENGINES, MODELS, CARRYOVERS):
        names = [setting.name for group in groups_of(engine, model, carryover) for setting in fields(group)]
        names += COMMAND_NAMES
        assert len(names) == len(set(names)), (engine, model, carryover)


def test_every_setting_can_be_left_out_and_read_from_text():
    for engine, model, carryover in product(ENGINES, MODELS, CARRYOVERS):
        for group in groups_of(engine, model, carryover):
            assert group() == group(), group


@pytest.mark.parametrize(
    ("group", "name", "registry"),
    [
        (TrainingSettings, "gradient", GRADIENTS),
        (TrainingSettings, "estimator", (*ESTIMATORS, HARD_LATE)),
        (SequenceSettings, "carryover", CARRYOVERS),
        (SequenceSettings, "start", STARTS),
        (DataSettings, "data", SOURCES),
        (PoissonVAESettings, "decoder", DECODERS),
        (PoissonVAESettings, "indicator", INDICATORS),
        (GaussianVAESettings, "activation", ACTIVATIONS),
    ],
)
def test_choices_are_what_is_registered(group, name, registry, monkeypatch, capsys):
    def choices() -> list[str]:
        from typing import get_type_hints

        hint: Any = get_type_hints(group, include_extras=True)[name]
        parts = get_args(found) if get_origin(found := listed(hint)) is Union else (found,)
        return next(list(get_args(part)) for part in parts if get_origin(part) is Literal)

    assert choices() == list(registry)
    if isinstance(registry, MutableMapping):
        monkeypatch.setitem(registry, "newest", next(iter(registry.values())))
        assert choices()[-1] == "newest"
    with pytest.raises(SystemExit):
        main(
            ["train", "--model", "gaussian-vae" if group is GaussianVAESettings else "poisson-vae", f"--{name}", "x-y"]
        )
    said = capsys.readouterr().err
    assert all(known in said for known in registry)


def test_a_name_of_a_registry_is_checked_when_it_is_looked_at():
    known = {"one": 1}
    assert get_args(listed(Annotated[str, OneOf(known)])) == ("one",)
    known["two"] = 2
    assert get_args(listed(Annotated[str, OneOf(known)])) == ("one", "two")


VIDEO = DataSettings(data="video", data_path=Path("clips.npz"))
SAMPLED = {"estimator": "eat"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"training": {"truncate_steps": 5}}, "`truncate_steps=5` needs `gradient=truncate`"),
        ({"training": {"truncate_steps": 3}}, "`truncate_steps=3` needs `gradient=truncate`"),
        ({"training": {"samples": 1}}, "`samples=1` does not apply to the exact free energy"),
        ({"training": {"temperature": 0.05}}, "`temperature=0.05` does not apply to the exact free energy"),
        ({"training": {"temperature": 0.05, "estimator": "score", "samples": 2}}, "`temperature=0.05` does not apply"),
        ({"model": PoissonVAESettings(indicator="cubic")}, "`indicator=cubic` does not apply to the exact free energy"),
        ({"model": SparseCodingSettings(), "training": {"beta_ramp": 0.0}}, "`beta_ramp=0.0` does not apply to sparse"),
        ({"model": SparseCodingSettings(), "training": {"estimator": "exact"}}, "`estimator=exact` does not apply"),
        ({"training": {"freeze": Path("run"), "beta_ramp": 0.0}}, "`beta_ramp=0.0` changes the model"),
        ({"sequence": SequenceSettings(window=4)}, "`window` is for sequences"),
        ({"sequence": SequenceSettings(), "carryover": LinearMapSettings()}, "carryover is a LinearMapSettings"),
    ],
)  # fmt: skip
def test_what_is_given_and_does_not_apply_is_refused_whatever_its_value(given, said):
    given = given | {"training": TrainingSettings(**given.get("training", {}))}
    with pytest.raises(InputError, match=said):
        check_settings(RunSettings(**given))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--patch-size 16 --data array --data-path x.npy", "--patch-size 16 does not apply to --data array"),
        ("--whiten --data mnist", "--whiten does not apply to --data mnist"),
        ("--val-share 0.2 --data video --data-path x.mp4", "--val-share 0.2 does not apply to --data video"),
        ("--window 8 --data photos", "--window is for sequences, and --data photos has no order"),
        ("--carryover none --data photos", "--carryover is for sequences, and --data photos has no order"),
        ("--map full --data drift", "--map does not apply to carryover none, whose own settings are none"),
        ("--rank 32 --carryover leaky", "--rank does not apply to carryover leaky.*use one of linear"),
        ("--indicator cubic --family gaussian", "--indicator does not apply to model gaussian-vae"),
        ("--rapid 3", "--rapid is not a setting"),
    ],
)
def test_options_that_do_not_apply_are_refused_whatever_their_value(args, said):
    with pytest.raises(InputError) as refused:
        parse_train(args.split())
    assert re.search(said, as_options(str(refused.value)))


def test_defaults_that_are_used_where_nothing_is_given():
    settings = TrainingSettings()
    assert {name: getattr(settings, name) for name in DEFAULTS} == dict.fromkeys(DEFAULTS)
    assert {name: settings.used(name) for name in DEFAULTS} == {
        "truncate_steps": 5,
        "samples": 1,
        "temperature": 0.05,
        "beta_ramp": 0.0,
    }
    assert TrainingSettings(samples=3).used("samples") == 3
    parsed, _, _ = parse_train(["--carryover", "linear", "--map", "low-rank"])
    assert parsed.carryover == LinearMapSettings("low-rank", None)
    assert parsed.data.data == "drift"


OLD = {"truncate_steps": 5, "samples": 1, "temperature": 0.05, "beta_ramp": 0.0, "map": "full", "rank": 32}
"""What an earlier version wrote of every run, given or not."""


def old_run(folder: Path, settings: RunSettings) -> dict[str, Any]:
    """A run as an earlier version left it."""
    train_run(settings, folder)
    content = read_checkpoint(folder / LAST)
    content["config"] |= OLD | ({"indicator": "cubic"} if "indicator" in content["config"] else {})
    write_checkpoint(folder / LAST, content)
    (folder / "config.yaml").write_text(yaml.safe_dump(content["config"]))
    return content["config"]


@pytest.fixture
def training():
    return TrainingSettings(updates=2, batch_size=10, validate_every=2, device="cpu", threads=1)


@pytest.mark.parametrize("model", [PoissonVAESettings(latents=4), SparseCodingSettings(latents=4)])
def test_files_of_earlier_versions_load_and_go_on(tmp_path, training, model):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 6)).astype("float32"))
    settings = RunSettings(
        data=DataSettings(data="array", data_path=tmp_path / "x.npy"), model=model, training=training
    )
    old_run(tmp_path / "run", settings)
    assert itervae.load(tmp_path / "run").settings == settings.located()
    main(["train", "--resume", str(tmp_path / "run"), "--updates", "4"])
    assert read_checkpoint(tmp_path / "run" / LAST)["update"] == 4
    main(["train", "--config", str(tmp_path / "run" / "config.yaml"), "--run-dir", str(tmp_path / "new")])
    assert itervae.load(tmp_path / "new").settings.training.samples is None


def test_a_linear_encoder_of_sparse_coding_without_a_bias_is_read(tmp_path, training):
    """As earlier versions left it: the bias is 0."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 6)).astype("float32"))
    data, model = DataSettings(data="array", data_path=tmp_path / "x.npy"), SparseCodingSettings(latents=4)
    train_run(RunSettings("amortized", data, model, AmortizedSettings("linear"), training), tmp_path / "run")
    content = read_checkpoint(tmp_path / "run" / LAST)
    del content["engine"]["encoder.0.bias"]
    write_checkpoint(tmp_path / "run" / LAST, content)
    read = itervae.load(tmp_path / "run" / LAST).engine.state_dict()
    assert torch.equal(read["encoder.0.weight"], content["engine"]["encoder.0.weight"])
    assert torch.equal(read["encoder.0.bias"], torch.zeros(4))
    del content["engine"]["encoder.0.weight"]
    write_checkpoint(tmp_path / "run" / LAST, content)
    with pytest.raises(InputError, match="the engine in checkpoint"):
        itervae.load(tmp_path / "run" / LAST)


@pytest.mark.parametrize("carryover", ["leaky", "linear"])
def test_runs_on_sequences_of_earlier_versions_load_and_go_on(tmp_path, training, carryover):
    data = DataSettings(data="drift", patch_size=6, frames=4)
    settings = RunSettings(
        data=data,
        model=PoissonVAESettings(latents=4),
        training=training,
        sequence=SequenceSettings(carryover=carryover, window=2),
    )
    config = old_run(tmp_path / "run", settings)
    assert itervae.load_sequence(tmp_path / "run")[2].size == 4
    main(["train", "--resume", str(tmp_path / "run"), "--updates", "3"])
    assert read_checkpoint(tmp_path / "run" / LAST)["update"] == 3
    config |= {"carryover": "linear", "map": "low-rank", "rank": 3}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    read, _, _ = parse_train(["--config", str(tmp_path / "config.yaml")])
    assert read.carryover == LinearMapSettings("low-rank", 3)
    config |= {"carryover": "leaky"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="key 'map' does not apply to carryover leaky"):
        parse_train(["--config", str(tmp_path / "config.yaml")])


def test_a_setting_of_a_carryover_is_written_with_it_alone(tmp_path):
    linear = RunSettings(
        data=VIDEO, sequence=SequenceSettings(carryover="linear"), carryover=LinearMapSettings("diagonal")
    )
    assert linear.flat()["map"] == "diagonal"
    assert RunSettings.from_flat(linear.flat()) == linear
    assert "map" not in RunSettings(data=VIDEO, sequence=SequenceSettings(carryover="leaky")).flat()
