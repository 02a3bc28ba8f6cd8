"""scikit-learn estimators: `PoissonVAE`, `GaussianVAE` and `SparseCoding`, with linear decoders.

They train as `itervae train` does, in memory and on the CPU, and infer with any engine; arrays go
in and out. Data are taken as they are: centre or whiten them first, in a pipeline, say. The model
that was learned is `model_`, and its engine `engine_`, for everything else that itervae has.
"""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from itervae.arguments import check_positive, check_whole
from itervae.arrays import as_float32
from itervae.data.source import RowSource
from itervae.devices import check_value
from itervae.errors import InputError
from itervae.inference import Engine, Inference, check_named, engine_class, infer, split_steps
from itervae.inference.checks import check_engine, check_fit
from itervae.model import (
    GaussianLikelihood,
    GaussianVAESettings,
    GenerativeModel,
    LinearDecoder,
    PoissonVAESettings,
    SparseCodingSettings,
    SparsityPrior,
    build_model,
)
from itervae.training import RunSettings, Schedule, TrainingSettings
from itervae.training.checkpoint import ENCODER_START
from itervae.training.choices import choose_gradient, choose_lr
from itervae.training.distributed import Processes
from itervae.training.tasks import Batch, StillTask

__all__ = ["GaussianVAE", "PoissonVAE", "SparseCoding"]

DTYPES = [np.float64, np.float32]
"""Precisions that are kept; other numbers become float64."""


class _Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What the three share; subclasses have the parameters, and write `_build`."""

    n_components: int | None
    engine: str | Engine
    transform_engine: str | Engine | None
    max_iter: int
    batch_size: int
    learning_rate: float | None
    random_state: int | np.random.RandomState | None

    def _build(self, size: int, seed: int) -> GenerativeModel:
        """A new model of data of D values."""
        raise NotImplementedError

    def fit(self, X: ArrayLike, y: Any = None) -> "_Estimator":
        """Learn model and engine from data (n, D), anew.

        Raises:
            InputError: a ValueError: data or parameters that are unfit, or training that diverged.
        """
        x = validate_data(self, X, dtype=DTYPES, order="C")
        check_whole("max_iter", self.max_iter, 1)
        check_whole("batch_size", self.batch_size, 1)
        self._begin(x)
        if self._optimizer is not None:
            rows = as_float32(x, "X")
            training = self._training(rows, min(self.batch_size, len(rows)))
            for update in range(self.max_iter):
                training.update(training.task.batch(update), update / self.max_iter)
            self.n_iter_ = self.max_iter
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None) -> "_Estimator":
        """Make one update of model and engine, with all of X (n, D) as its batch, from where they
        are; the learning rate stays at its peak.

        Raises:
            InputError: as `fit`.
        """
        begins = not hasattr(self, "model_")
        x = validate_data(self, X, dtype=DTYPES, order="C", reset=begins)
        if begins:
            self._begin(x)
        if self._optimizer is not None:
            rows = as_float32(x, "X")
            self._training(rows, len(rows)).update(Batch(rows), None)
            self.n_iter_ += 1
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """The codes of data (n, D): the mean of the posterior of each datum, (n, K)."""
        return self._infer(self._rows(X)).posterior.mean.numpy()

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """The data that codes (n, K) stand for: X @ components_, (n, D)."""
        atoms = self.components_
        codes = check_array(X, dtype=DTYPES, input_name="X")
        if codes.shape[1] != len(atoms):
            raise InputError(f"X has {codes.shape[1]} codes per datum; expected {len(atoms)}, as transform gives")
        return codes @ atoms

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """The objective with its sign turned, averaged over data (n, D), in float64: −F, nats per
        datum; −E of sparse coding.

        F leaves out the constant (D/2)·log 2πσ²: scores compare at the same `observation_variance`
        and `beta`, and those of sparse coding at the same `alpha`.
        """
        x = self._rows(X).double()
        return -self._model().free_energy(x, self._infer(x).posterior).total.mean().item()

    @property
    def components_(self) -> np.ndarray:
        """The dictionary, one atom a row (K, D), in the precision of the data it was learned
        from."""
        atoms = self._model().operator(torch.float64).dictionary  # pyright: ignore[reportAttributeAccessIssue]
        return atoms.detach().mT.contiguous().numpy().astype(getattr(self, "_dtype", np.float64))

    @property
    def _n_features_out(self) -> int:
        return self._model().latents

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]  # pyright: ignore[reportOptionalMemberAccess]
        return tags

    def _begin(self, x: np.ndarray) -> None:
        """Make model, engine and optimizer."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.model_ = self._build(x.shape[1], seed)
        self.engine_ = _engine(self.engine, self.model_, seed)
        self.n_iter_, self._dtype, self._seed = 0, x.dtype, seed
        trained = [p for part in (self.model_, self.engine_) for p in part.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adamax(trained) if trained else None

    def _training(self, rows: Tensor, batch_size: int) -> "_Training":
        assert self._optimizer is not None
        lr = None if self.learning_rate is None else check_positive("learning_rate", self.learning_rate)
        options = TrainingSettings(batch_size=batch_size, lr=lr, seed=self._seed + self.n_iter_)
        return _Training(self.model_, self.engine_, self._optimizer, rows, options)

    def _model(self) -> GenerativeModel:
        check_is_fitted(self, "model_")
        return self.model_

    def _rows(self, X: ArrayLike) -> Tensor:
        self._model()  # refused where there is none
        return torch.tensor(validate_data(self, X, dtype=DTYPES, order="C", reset=False))

    @torch.no_grad()
    def _infer(self, x: Tensor) -> Inference:
        model, seed, given = self._model(), getattr(self, "_seed", 0), self.transform_engine
        engine = getattr(self, "engine_", None) if given is None else None
        if engine is None:
            given = self.engine if given is None else given
            if isinstance(given, str) and _kind(given).learned:
                raise InputError(f"{given} has to be trained to infer; give it as engine, and call fit")
            engine = _engine(given, model, seed)
        return infer(model, engine, x, generator=torch.Generator().manual_seed(seed))

    def _latents(self, size: int) -> int:
        """K, as asked for, else D."""
        if self.n_components is None:
            return size
        check_whole("n_components", self.n_components, 1)
        return self.n_components


class PoissonVAE(_Estimator):
    """A Poisson variational autoencoder with a linear decoder; its codes are posterior mean rates,
    not samples of counts.

        F = E_q‖x − Φz‖²/2σ² + β·KL(Pois(λ) ‖ Pois(r)),    z ~ Pois(λ), with prior rates r learned

    Args:
        n_components: K; as many as data have values where None.
        engine: of inference, trained with the model: a name of `itervae.inference.ENGINES`, with
            or without a number of steps ("lca-unrolled:50"), MODULE:CLASS, or an engine, of which
            a copy is used.
        transform_engine: another one for `transform` and `score`, with nothing to learn or learned
            before; that of training where None.
        observation_variance: σ², squared units of the data.
        beta: β, the weight of the KL.
        max_iter: number of parameter updates of `fit`.
        batch_size: data of an update.
        learning_rate: peak of Adamax's, before it falls to 1e-5; that of `itervae train` where
            None.
        random_state: of the start and the order of the data; an int makes `fit` repeatable.

    Attributes:
        components_: dictionary (K, D), one atom a row.
        model_, engine_: as learned, a `GenerativeModel` and an `Engine` of itervae.
        n_iter_: parameter updates so far.
        n_features_in_, feature_names_in_: of the data, as scikit-learn has them.

    Source: Vafaii, Galor & Yates (2024), "Poisson variational autoencoder".
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        engine: str | Engine = "lca-unrolled",
        transform_engine: str | Engine | None = None,
        observation_variance: float = 0.5,
        beta: float = 1.0,
        max_iter: int = 1000,
        batch_size: int = 200,
        learning_rate: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.engine = engine
        self.transform_engine = transform_engine
        self.observation_variance = observation_variance
        self.beta = beta
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _build(self, size: int, seed: int) -> GenerativeModel:
        start = ENCODER_START if _kind(self.engine).learned else None
        settings = PoissonVAESettings(
            self._latents(size),
            observation_variance=self.observation_variance,
            beta=self.beta,
            start_log_rate=start,
        )
        return build_model(settings, (size,), seed)


class GaussianVAE(_Estimator):
    """A Gaussian variational autoencoder with a linear decoder, probabilistic PCA but for the prior
    belief that latents are independent given x; its codes are posterior means.

        F = E_q‖x − Φz‖²/2σ² + β·KL(N(μ, diag v) ‖ N(0, 1)),    z ~ N(μ, diag v)

    Args:
        n_components, engine, transform_engine, observation_variance, beta, max_iter, batch_size,
            learning_rate, random_state: as of `PoissonVAE`. The best posterior has a closed form,
            which the engine `optimal` gives.

    Attributes:
        components_, model_, engine_, n_iter_, n_features_in_, feature_names_in_: as of
            `PoissonVAE`.

    Source: Kingma & Welling (2014), "Auto-encoding variational Bayes".
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        engine: str | Engine = "optimal",
        transform_engine: str | Engine | None = None,
        observation_variance: float = 0.5,
        beta: float = 1.0,
        max_iter: int = 1000,
        batch_size: int = 200,
        learning_rate: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.engine = engine
        self.transform_engine = transform_engine
        self.observation_variance = observation_variance
        self.beta = beta
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _build(self, size: int, seed: int) -> GenerativeModel:
        settings = GaussianVAESettings(
            self._latents(size), observation_variance=self.observation_variance, beta=self.beta
        )
        return build_model(settings, (size,), seed)


class SparseCoding(_Estimator):
    """Classic sparse coding, with the objective and the parameters of scikit-learn's
    `DictionaryLearning`; its codes are the certified optimum, unless another engine is named.

        E(a) = ½‖x − aD‖² + alpha·‖a‖₁,    D (K, D) with atoms of unit norm

    Args:
        n_components: K; as many as data have values where None.
        alpha: penalty, the threshold of the LCA, units of the data.
        positive_code: codes are at least 0.
        dictionary: (K, D) atoms that stay as they are, of any norm, as those of scikit-learn's
            `SparseCoder`: `transform` needs no `fit`, which trains nothing but an engine that has
            parameters.
        engine, transform_engine, max_iter, batch_size, learning_rate, random_state: as of
            `PoissonVAE`.

    Attributes:
        components_, model_, engine_, n_iter_, n_features_in_, feature_names_in_: as of
            `PoissonVAE`.

    Source: Olshausen & Field (1996), "Emergence of simple-cell receptive field properties by
    learning a sparse code for natural images".
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        alpha: float = 1.0,
        positive_code: bool = False,
        dictionary: ArrayLike | None = None,
        engine: str | Engine = "optimal",
        transform_engine: str | Engine | None = None,
        max_iter: int = 1000,
        batch_size: int = 200,
        learning_rate: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.positive_code = positive_code
        self.dictionary = dictionary
        self.engine = engine
        self.transform_engine = transform_engine
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = self.dictionary is None
        return tags

    def _build(self, size: int, seed: int) -> GenerativeModel:
        alpha = check_positive("alpha", self.alpha)
        if self.dictionary is not None:
            return self._given(size)
        settings = SparseCodingSettings(self._latents(size), threshold=alpha, signed=not self.positive_code)
        return build_model(settings, (size,), seed)

    def _model(self) -> GenerativeModel:
        if self.dictionary is not None and not hasattr(self, "model_"):
            return self._given()
        return super()._model()

    def _given(self, size: int | None = None) -> GenerativeModel:
        """The model of the dictionary that was given, for data of D values."""
        atoms = check_array(self.dictionary, dtype=DTYPES, order="C", input_name="dictionary")
        latents, width = atoms.shape
        if size not in (None, width) or self.n_components not in (None, latents):
            raise InputError(
                f"dictionary has shape {atoms.shape}; expected (n_components, n_features), here "
                f"({self.n_components or 'any'}, {size or width}): transpose it, or give another"
            )
        prior = SparsityPrior(latents, check_positive("alpha", self.alpha), not self.positive_code)
        with torch.random.fork_rng(devices=()):  # its random start is not used
            decoder = LinearDecoder(width, latents)
        model = GenerativeModel(prior, decoder, GaussianLikelihood(1.0), (width,)).to(torch.tensor(atoms))
        with torch.no_grad():
            decoder.weight.copy_(torch.tensor(atoms).mT)
        return model.requires_grad_(False)


class _Training:
    """Updates as those of `itervae train`, on rows in memory (n, D); nothing is written."""

    def __init__(
        self,
        model: GenerativeModel,
        engine: Engine,
        optimizer: torch.optim.Optimizer,
        rows: Tensor,
        options: TrainingSettings,
    ) -> None:
        settings = RunSettings(type(engine), training=options)
        source = RowSource("X", model.shape, rows, rows[:1], options.seed)
        gradient = choose_gradient(settings, engine, model)
        self.task = StillTask(settings, model, engine, source, gradient, Processes())
        self._optimizer, self._clip = optimizer, options.clip
        lr, beta = choose_lr(settings, engine, model), model.beta.item()
        self._schedule = Schedule(lr, beta, options.used("beta_ramp"), options.used("temperature"))
        self._generator = torch.Generator().manual_seed(options.seed)

    def update(self, batch: Batch, progress: float | None) -> None:
        """One update of the parameters; a budget that is not known has a constant learning rate."""
        schedule = self._schedule
        temperature = schedule.temperature if progress is None else schedule.temperature_at(progress)
        step = self.task.step(batch, temperature, self._generator)
        self._optimizer.zero_grad()
        step.loss.backward()
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.lr if progress is None else schedule.lr_at(progress)
            norm = torch.nn.utils.clip_grad_norm_(group["params"], self._clip)
            check_value(torch.isfinite(step.loss + norm), _diverged)
        self._optimizer.step()


def _diverged() -> InputError:
    return InputError(
        "training diverged: the free energy or its gradient is not finite; scale the data, or give a smaller "
        "learning_rate"
    )


def _kind(engine: str | Engine) -> type[Engine]:
    """The class of an engine that is named, or given."""
    return engine_class(split_steps(engine)[0]) if isinstance(engine, str) else type(engine)


def _engine(engine: str | Engine, model: GenerativeModel, seed: int) -> Engine:
    """A new engine for a model, by its name, or a copy of the one that is given."""
    if not isinstance(engine, str):
        check_engine(engine)
        check_fit(type(engine), model)
        return copy.deepcopy(engine)
    name, steps = split_steps(engine)
    kind = engine_class(name)
    check_named(kind, model)
    settings: Any = kind.Settings()
    if steps is not None:
        if not hasattr(settings, "steps"):
            raise InputError(f"{engine!r} asks for {steps} steps, and {name} takes none; use {name!r}")
        settings.steps = steps
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed + 1)
        return kind.build(settings, model, model.shape)
