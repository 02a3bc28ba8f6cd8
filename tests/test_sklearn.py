"""The estimators against scikit-learn's own contract and solvers, probabilistic PCA, and
`itervae train`."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import itervae
from itervae.data import DataSettings, load_source
from itervae.inference import ENGINES, FISTAUnrolled, Optimal
from itervae.model import PoissonVAESettings
from itervae.sklearn import GaussianVAE, PoissonVAE, SparseCoding
from itervae.training import RunSettings, TrainingSettings, train_run

pytestmark = pytest.mark.usefixtures("unchecked")
SMALL = {"n_components": 2, "max_iter": 2, "batch_size": 50}
DIMENSIONS, ALPHA = 12, 0.3


@pytest.fixture(scope="module")
def atoms():
    """20 atoms of norms from .5 to 2."""
    random = np.random.default_rng(0)
    found = random.normal(size=(20, DIMENSIONS))
    return found * random.uniform(0.5, 2, (20, 1)) / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def x(atoms):
    """100 data of two to three atoms each, and noise."""
    random = np.random.default_rng(1)
    codes = 2 * random.normal(size=(100, 20)) * (random.random((100, 20)) < 0.15)
    return codes @ atoms + 0.1 * random.normal(size=(100, DIMENSIONS))


def energy(x, codes, atoms):
    """E(a) of each datum (n,)."""
    return 0.5 * ((x - codes @ atoms) ** 2).sum(1) + ALPHA * abs(codes).sum(1)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(PoissonVAE(**SMALL, inference="lca-unrolled:3"), marks=pytest.mark.slow),
        pytest.param(GaussianVAE(**SMALL), marks=pytest.mark.slow),
        SparseCoding(**SMALL),
        pytest.param(PoissonVAE(**SMALL, inference="optimal"), marks=pytest.mark.slow),
        pytest.param(PoissonVAE(**SMALL, inference="amortized"), marks=pytest.mark.slow),
        pytest.param(GaussianVAE(**SMALL, inference="semi-amortized"), marks=pytest.mark.slow),
        pytest.param(SparseCoding(**SMALL, positive_code=True, inference="fista-unrolled"), marks=pytest.mark.slow),
    ],
    ids=lambda estimator: f"{type(estimator).__name__}-{estimator.inference}",
)
def test_all_checks_of_scikit_learn(estimator):
    results = check_estimator(estimator, on_skip=None)  # raises what a check raises
    assert len(results) > 40
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {"check_array_api_input"}


def test_fit_is_itervae_train(x, tmp_path):
    """On the same rows and with the same seed, to the last bit."""
    np.save(tmp_path / "x.npy", x)
    data = DataSettings("array", data_path=tmp_path / "x.npy")
    seed = int(np.random.RandomState(7).randint(2**31 - 1))
    options = TrainingSettings(updates=5, batch_size=30, seed=seed, device="cpu")
    train_run(RunSettings("lca-unrolled", data, PoissonVAESettings(6, beta=0.5), training=options), tmp_path / "run")
    model, _ = itervae.load(tmp_path / "run" / "checkpoint_last.pt")
    rows = load_source(data, seed).train.numpy()
    found = PoissonVAE(6, beta=0.5, max_iter=5, batch_size=30, random_state=7).fit(rows)
    assert torch.equal(found.model_.dictionary, model.dictionary)
    assert torch.equal(found.model_.prior.log_rate, model.prior.log_rate)
    assert found.n_iter_ == 5


def test_codes_are_those_of_sparse_encode(atoms, x):
    """`alpha` as it is, for atoms of any norm, without `fit`."""
    found = SparseCoding(alpha=ALPHA, dictionary=atoms).transform(x)
    best = sparse_encode(x, atoms, algorithm="lasso_lars", alpha=ALPHA)
    np.testing.assert_allclose(found, best, atol=1e-6)
    near = sparse_encode(x, atoms, algorithm="lasso_cd", alpha=ALPHA, max_iter=100_000)
    excess = energy(x, near, atoms) - energy(x, found, atoms)
    assert (excess >= -1e-9).all()
    assert (excess <= 1e-4 * (x**2).sum(1)).all()  # its tolerance
    assert 0.05 < (best != 0).mean() < 0.5


def test_positive_codes_are_those_of_the_lasso(atoms, x):
    found = SparseCoding(alpha=ALPHA, dictionary=atoms, positive_code=True).transform(x[:20])
    lasso = Lasso(ALPHA / DIMENSIONS, fit_intercept=False, positive=True, tol=1e-12, max_iter=100_000)
    best = np.array([lasso.fit(atoms.T, row).coef_ for row in x[:20]])
    np.testing.assert_allclose(found, best, atol=1e-6)


def test_a_learned_dictionary_has_the_conventions_of_dictionary_learning(x):
    coding = SparseCoding(8, alpha=ALPHA, max_iter=30, random_state=0)
    codes = coding.fit_transform(x)
    assert coding.components_.shape == (8, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(coding.components_, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        codes, sparse_encode(x, coding.components_, algorithm="lasso_lars", alpha=ALPHA), atol=1e-6
    )
    np.testing.assert_allclose(coding.inverse_transform(codes), codes @ coding.components_)
    assert coding.score(x) == pytest.approx(-energy(x, codes, coding.components_).mean(), rel=1e-6)
    start = SparseCoding(8, alpha=ALPHA, max_iter=1, random_state=0).fit(x)
    assert coding.score(x) > start.score(x) + 0.1


def test_a_given_dictionary_stays_as_it_is(atoms, x):
    coding = SparseCoding(alpha=ALPHA, dictionary=atoms)
    np.testing.assert_array_equal(coding.components_, atoms)
    unfitted = coding.score(x)
    assert clone(coding).fit(x).partial_fit(x).score(x) == unfitted
    np.testing.assert_array_equal(coding.fit(x).components_, atoms)
    assert coding.n_iter_ == 0
    fista = coding.set_params(inference=FISTAUnrolled, inference_params={"steps": 500})
    assert fista.score(x) == pytest.approx(unfitted, abs=1e-6)


@pytest.mark.slow
def test_the_gaussian_vae_reaches_probabilistic_pca():
    """Of one latent the best posterior is the exact one, so −F comes to log p(x) of PPCA with the
    same σ², but for its constant, and never above it."""
    random, variance = np.random.default_rng(0), 0.25
    x = 0.8 * random.normal(size=(500, 1)) @ random.normal(size=(1, 6)) + 0.5 * random.normal(size=(500, 6))
    x -= x.mean(0)
    vae = GaussianVAE(1, observation_variance=variance, max_iter=600, batch_size=500, learning_rate=0.1, random_state=0)
    covariance = x.T @ x / len(x)
    values, vectors = np.linalg.eigh(covariance)
    atom = np.sqrt(values[-1] - variance) * vectors[:, -1]
    best = np.outer(atom, atom) + variance * np.eye(6)
    likelihood = -0.5 * (np.linalg.slogdet(best)[1] + np.trace(np.linalg.solve(best, covariance)))
    bound = likelihood + 3 * np.log(variance)
    assert bound - 1e-4 < vae.fit(x).score(x) < bound + 1e-6
    np.testing.assert_allclose(np.outer(vae.components_, vae.components_), np.outer(atom, atom), atol=0.01)


def test_another_engine_of_the_model_that_was_learned(x):
    vae = PoissonVAE(6, inference="lca-unrolled:2", max_iter=10, random_state=0).fit(x)
    few = vae.score(x)
    best = vae.set_params(inference="optimal", inference_params={"tolerance": 1e-9})
    direct = itervae.infer(vae.model_, Optimal(tolerance=1e-9), torch.tensor(x)).posterior
    np.testing.assert_array_equal(best.transform(x), direct.mean.detach())
    assert best.score(x) == pytest.approx(-vae.model_.free_energy(torch.tensor(x), direct).total.mean().item())
    assert best.score(x) > few


def test_partial_fit_goes_on_from_fit_and_from_a_pickle(x):
    vae = PoissonVAE(6, max_iter=10, random_state=0).fit(x)
    before = vae.score(x)
    again = pickle.loads(pickle.dumps(vae))
    for _ in range(5):
        vae.partial_fit(x)
        again.partial_fit(x)
    assert vae.n_iter_ == 15
    assert vae.score(x) > before
    np.testing.assert_array_equal(vae.components_, again.components_)
    np.testing.assert_array_equal(vae.transform(x), again.transform(x))
    assert len(pickle.dumps(vae)) < 50_000  # no data in it


def test_a_pipeline_in_a_grid_search(x):
    labels = x[:, 0] > 0
    chain = make_pipeline(StandardScaler(), GaussianVAE(2, max_iter=3, random_state=0), LogisticRegression())
    grid = {"gaussianvae__n_components": [2, 4], "gaussianvae__beta": [0.5, 1.0]}
    search = GridSearchCV(chain, grid, cv=2).fit(x, labels)
    best = search.best_estimator_[:-1]
    assert best.transform(x).shape == (100, search.best_params_["gaussianvae__n_components"])
    assert list(best.get_feature_names_out()[:2]) == ["gaussianvae0", "gaussianvae1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("kind", [PoissonVAE, GaussianVAE, SparseCoding])
def test_every_engine_that_fits(kind, name, x):
    model = kind(4, max_iter=1, random_state=0).fit(x).model_
    estimator = kind(4, inference=name, max_iter=2, random_state=0)
    if name not in itervae.inference.fitting(model):
        with pytest.raises(itervae.InputError, match="engines that fit"):
            estimator.fit(x)
        return
    assert estimator.fit_transform(x).shape == (100, 4)
    assert np.isfinite(estimator.score(x))


def test_a_run_that_diverges_says_so(x):
    with pytest.raises(itervae.InputError, match=r"training diverged at update \d+ .*learning_rate below 1e\+30"):
        PoissonVAE(4, inference="amortized", learning_rate=1e30, max_iter=20, random_state=0).fit(x)


@pytest.mark.slow
def test_the_examples_of_the_page():
    """As printed, with what the page says of them."""
    text = (Path(__file__).parents[1] / "docs" / "sklearn.md").read_text()
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, scope)
    assert scope["chain"].score(scope["test"], scope["answers"]) > 0.9
    assert scope["search"].best_params_ == {"poissonvae__n_components": 32}
    assert abs(scope["codes"] - scope["same"]).max() < 1e-6
    assert len(load_digits().data) == len(scope["train"]) + len(scope["test"])
