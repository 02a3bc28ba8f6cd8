"""Training from Python: models and engines as they are there, on arrays, Datasets and sources."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import itervae
from itervae import InputError
from itervae.cli import gap
from itervae.data import DataSettings, load_source
from itervae.inference import Amortized, FISTAUnrolled, LCAUnrolled
from itervae.model import (
    GaussianLikelihood,
    GenerativeModel,
    LinearDecoder,
    PoissonPrior,
    PoissonVAESettings,
    SparseCodingSettings,
    build_model,
)
from itervae.training import LAST, read_checkpoint

D, K = 16, 8
SHORT = {"updates": 40, "batch_size": 20, "validate_every": 20, "lr": 0.05, "threads": 1}


class Shallow(nn.Module):
    """An encoder of one's own."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.layer = nn.Linear(int(np.prod(shape)), outputs)
        nn.init.normal_(self.layer.weight, std=0.01)

    def forward(self, x):
        return self.layer(x)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.poisson(0.3, (200, K)) @ rng.normal(size=(K, D)) + 0.1 * rng.normal(size=(200, D))


def composed():
    torch.manual_seed(0)
    return GenerativeModel(PoissonPrior(K), LinearDecoder(D, K), GaussianLikelihood(), (4, 4))


def energy(model, engine, x):
    with torch.no_grad():
        return model.free_energy(x, itervae.infer(model, engine, x).posterior).total.mean().item()


def test_a_model_of_settings_makes_a_run_like_any_other(rows, tmp_path, capsys):
    model = itervae.build_model(PoissonVAESettings(latents=K), (4, 4))
    engine = LCAUnrolled(5)
    before = energy(model, engine, rows)
    summary = itervae.train(model, engine, rows, tmp_path / "run", **SHORT)
    assert summary.finished
    assert summary.updates == 40
    after = energy(model, engine, rows)
    assert after < 0.8 * before
    assert f"{summary.validation['free_energy']:.6g}" in repr(summary)
    run = itervae.load(tmp_path / "run" / LAST)
    assert energy(*run, rows) == after
    assert run.engine.steps == 5
    np.save(tmp_path / "x.npy", rows)
    gap.run([str(tmp_path / "run"), "--data-path", str(tmp_path / "x.npy"), "--num", "20"])
    assert "certificate of the optimum" in capsys.readouterr().out


def test_the_same_as_the_command(rows, tmp_path):
    """A run of Python has the parameters of `itervae train --data array` bit for bit."""
    from itervae.training import RunSettings, TrainingSettings, train_run
    from itervae.training.checkpoint import build

    np.save(tmp_path / "x.npy", rows.astype(np.float32))
    settings = RunSettings(
        "lca-unrolled",
        DataSettings(data="array", data_path=tmp_path / "x.npy"),
        PoissonVAESettings(latents=K),
        LCAUnrolled.Settings(steps=5),
        TrainingSettings(**SHORT),
    )
    train_run(settings, tmp_path / "command")
    model, engine = build(settings, (D,))
    itervae.train(model, engine, rows, tmp_path / "python", **SHORT)
    one, other = (read_checkpoint(tmp_path / name / LAST)["model"] for name in ("command", "python"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_data_of_every_kind_are_the_same_rows(rows, tmp_path):
    class Pairs(Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, index):
            return rows[index].reshape(4, 4), index

    np.save(tmp_path / "x.npy", rows)
    given = {
        "array": rows,
        "lists": rows.tolist(),
        "images": torch.tensor(rows).reshape(-1, 4, 4),
        "pairs": Pairs(),
        "tensors": TensorDataset(torch.tensor(rows)),
        "source": load_source(DataSettings(data="array", data_path=tmp_path / "x.npy"), 0),
    }
    found = {}
    for name, data in given.items():
        model = itervae.build_model(PoissonVAESettings(latents=K), (4, 4) if name != "source" else (D,))
        itervae.train(model, FISTAUnrolled(3), data, tmp_path / name, **SHORT | {"updates": 5})
        found[name] = model.dictionary
    for name, dictionary in found.items():
        assert torch.equal(dictionary, found["array"]), name


def test_objects_composed_by_hand_are_handed_over_again(rows, tmp_path):
    model, engine = composed(), Amortized(nn.Linear(D, K))
    itervae.train(model, engine, rows, tmp_path / "run", **SHORT)
    expected = energy(model, engine, rows)
    with pytest.raises(InputError, match=r"composed by hand.*a LinearDecoder, and a Amortized|hand both over"):
        itervae.load(tmp_path / "run")
    again, encoder = composed(), Amortized(nn.Linear(D, K))
    assert energy(*itervae.load(tmp_path / "run" / LAST, model=again, engine=encoder), rows) == expected
    assert energy(again, encoder, rows) == expected
    itervae.train(
        again.requires_grad_(), encoder.requires_grad_(), rows, tmp_path / "run", resume=True, **SHORT | {"updates": 50}
    )
    assert read_checkpoint(tmp_path / "run" / LAST)["update"] == 50
    with pytest.raises(InputError, match=r"does not fit"):
        itervae.load(tmp_path / "run", model=again, engine=Amortized(nn.Linear(D, K, bias=False)))


def test_a_model_that_was_changed_is_not_what_its_settings_say(rows, tmp_path):
    model = itervae.build_model(PoissonVAESettings(latents=K), (4, 4))
    model.decoder = LinearDecoder(D, K, unit_norm=True)
    model.prior = PoissonPrior(K + 1)
    model.decoder = nn.Linear(K + 1, D)
    itervae.train(model, Amortized(nn.Linear(D, K + 1)), rows, tmp_path / "run", **SHORT | {"updates": 2})
    with pytest.raises(InputError, match="composed by hand"):
        itervae.load(tmp_path / "run")


def test_an_encoder_of_ones_own(rows, tmp_path):
    model = itervae.build_model(PoissonVAESettings(latents=K), (4, 4))
    engine = itervae.build_engine("amortized", model, encoder=Shallow)
    itervae.train(model, engine, rows, tmp_path / "run", **SHORT)
    with pytest.raises(InputError, match="never trusted to name code"):
        itervae.load(tmp_path / "run")
    run = itervae.load(tmp_path / "run" / LAST, own=[Shallow])
    assert energy(*run, rows) == energy(model, engine, rows)


def test_what_asks_for_no_gradient_is_kept(rows, tmp_path):
    model = itervae.build_model(SparseCodingSettings(latents=K, threshold=0.2), (4, 4)).requires_grad_(False)
    engine, before = itervae.build_engine("amortized", model), model.dictionary.clone()
    itervae.train(model, engine, rows, tmp_path / "run", **SHORT | {"updates": 3})
    assert torch.equal(model.dictionary, before)
    with pytest.raises(InputError, match="nothing to train"):
        itervae.train(model, LCAUnrolled(2), rows, tmp_path / "other", **SHORT)


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(D)


class Ragged(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, index):
        return torch.zeros(D + (index > 3))


MISUSES = {
    "a name for a model": (lambda m, x: ("poisson-vae", LCAUnrolled(), x), {}, r"model is 'poisson-vae'"),
    "a class for an engine": (lambda m, x: (m, LCAUnrolled, x), {}, r"engine is the class LCAUnrolled"),
    "an unknown setting": (lambda m, x: (m, LCAUnrolled(), x), {"epochs": 3}, r"no setting 'epochs'; .*expected some"),
    "a misspelt setting": (lambda m, x: (m, LCAUnrolled(), x), {"update": 3}, r"did you mean updates\?"),
    "freeze": (lambda m, x: (m, LCAUnrolled(), x), {"freeze": "phi.npy"}, r"requires_grad_\(False\)"),
    "data of another size": (lambda m, x: (m, LCAUnrolled(), x[:, :7]), {}, r"7 values per datum.* 16"),
    "one datum": (lambda m, x: (m, LCAUnrolled(), x[0]), {}, r"shape \(16,\); expected \(N, D\)"),
    "no data": (lambda m, x: (m, LCAUnrolled(), None), {}, r"data is None; expected"),
    "a path": (lambda m, x: (m, LCAUnrolled(), "x.npy"), {}, r"data is 'x.npy'; expected"),
    "NaN": (lambda m, x: (m, LCAUnrolled(), x * np.nan), {}, r"data holds nan at row 0"),
    "without a length": (lambda m, x: (m, LCAUnrolled(), Endless()), {}, r"has no length; expected a map-style"),
    "items of several sizes": (lambda m, x: (m, LCAUnrolled(), Ragged()), {}, r"has 1[67] values and the first 1[67]"),
    "no whole number": (
        lambda m, x: (m, LCAUnrolled(), x),
        {"updates": 1.5},
        r"`updates` is 1.5; expected a whole number",
    ),
    "minutes": (lambda m, x: (m, LCAUnrolled(), x), {"minutes": "1"}, r"`minutes` is '1'; expected a number"),
    "a gradient": (
        lambda m, x: (m, LCAUnrolled(), x),
        {"gradient": "foo"},
        r"`gradient` is 'foo'; expected one of unroll",
    ),
    "a seed": (lambda m, x: (m, LCAUnrolled(), x), {"seed": "a"}, r"`seed` is 'a'; expected a whole number"),
    "a window": (lambda m, x: (m, LCAUnrolled(), x), {"window": "a"}, r"`window` is 'a'; expected a whole number"),
    "another image": (
        lambda m, x: (m, LCAUnrolled(), x.reshape(-1, 2, 8)),
        {},
        r"shape \(\d+, 2, 8\), and a datum.*\(4, 4\)",
    ),
    "constant data": (lambda m, x: (m, LCAUnrolled(), np.ones((40, 16))), {}, r"data is constant: all 32 rows"),
    "masked": (lambda m, x: (m, LCAUnrolled(), np.ma.masked_array(x, x > 1)), {}, r"masked values; .*data.filled"),
    "sparse": (lambda m, x: (m, LCAUnrolled(), csr_matrix(x)), {}, r"data is sparse \(csr_matrix\).*toarray"),
    "objects": (lambda m, x: (m, LCAUnrolled(), np.full((40, 16), None)), {}, r"data is a ndarray of object; expected"),
    "a loader": (lambda m, x: (m, LCAUnrolled(), DataLoader(x)), {}, r"give data.dataset"),
    "of updates": (lambda m, x: (m, LCAUnrolled(), x), {"updates": -1}, r"`updates` is -1; expected a positive"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_one_sentence(misuse, rows, tmp_path):
    given, options, message = MISUSES[misuse]
    with pytest.raises(InputError, match=message) as raised:
        itervae.train(*given(build_model(PoissonVAESettings(latents=K), (4, 4)), rows), tmp_path / "run", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_settings_of_an_engine_that_it_has_not():
    model = composed()
    with pytest.raises(InputError, match=r"amortized has no setting 'encodr'; did you mean encoder\?"):
        itervae.build_engine("amortized", model, encodr="mlp")
    with pytest.raises(InputError, match=r"leave one out"):
        itervae.build_engine("lca-unrolled", model, LCAUnrolled.Settings(), steps=3)
    with pytest.raises(InputError, match=r"did you mean lca-unrolled\?"):
        itervae.build_engine("lca-unroled", model)
