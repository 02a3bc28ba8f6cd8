"""What the estimators share: training in memory, inference, and scikit-learn's conventions."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from itervae.arguments import check_kind, check_positive, check_whole
from itervae.arrays import as_float32
from itervae.data.source import RowSource
from itervae.errors import InputError, described
from itervae.inference import Engine, Inference, build_engine, engine_class, infer, split_steps
from itervae.model import GenerativeModel, ModelSettings
from itervae.training import RunSettings, TrainingSettings
from itervae.training.distributed import Processes
from itervae.training.run import Run, prepare
from itervae.training.schedules import WARM_UP
from itervae.training.tasks import Batch

DTYPES: Any = (np.float64, np.float32)
"""Precisions that are kept; other numbers become float64."""


class Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A generative model and an engine as a transformer; a subclass has the parameters, and
    describes the model in `_settings`."""

    n_components: int | None
    inference: str | type[Engine]
    inference_params: Mapping[str, Any] | None
    max_iter: int
    batch_size: int
    learning_rate: float | None
    random_state: int | np.random.RandomState | None
    model_: GenerativeModel
    engine_: Engine
    _run: Run | None

    def __init__(self, **parameters: Any) -> None:
        vars(self).update(parameters)

    def _settings(self, latents: int) -> ModelSettings:
        """The model that is to be learned."""
        raise NotImplementedError

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn model and engine from data (n, D), anew.

        Raises:
            InputError: data or parameters that are unfit, or training that diverged.
        """
        check_whole("max_iter", self.max_iter, 1)
        check_whole("batch_size", self.batch_size, 1)
        x = self._checked(X, reset=True)
        self._begin(x)
        if self._run is not None:
            rows, size = as_float32(x, "X"), min(self.batch_size, len(x))
            source = RowSource("X", self.model_.shape, rows, rows[:1], self._run.settings.training.seed)
            for update in range(self.max_iter):
                self._update(source.batch(update, size), update / self.max_iter)
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Make one update of model and engine, with all of X (n, D) as its batch, from where they
        are; the learning rate is at its peak, and a dictionary under a solver has its step in
        closed form, of all data so far.

        Raises:
            InputError: as `fit`.
        """
        begins = not hasattr(self, "model_")
        x = self._checked(X, reset=begins)
        if begins:
            self._begin(x)
        if self._run is not None:
            self._update(as_float32(x, "X"), WARM_UP)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """The codes of data (n, D): the posterior mean of each datum, (n, K)."""
        return self._infer(self._rows(X)).posterior.mean.numpy()

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """The data that codes (n, K) stand for: X @ components_, (n, D)."""
        atoms = self.components_
        codes = check_array(X, dtype=DTYPES, input_name="X")
        if codes.shape[1] != len(atoms):
            raise InputError(
                f"X has {codes.shape[1]} codes per datum; expected {len(atoms)}, one per component: give what "
                "transform gives"
            )
        return codes @ atoms

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """The objective with its sign turned, in the mean over data (n, D): −F, nats per datum; −E
        of sparse coding.

        F leaves out the constant (D/2)·log 2πσ²: scores compare at the same `observation_variance`
        and `beta`, and those of sparse coding at the same `alpha`.
        """
        x = self._rows(X).double()
        return -self._model().free_energy(x, self._infer(x).posterior).total.mean().item()

    @property
    def components_(self) -> np.ndarray:
        """The dictionary, one atom a row (K, D), in the precision of the data that were learned."""
        atoms = self._model().dictionary.detach().mT.contiguous().numpy()
        return atoms.astype(getattr(self, "_dtype", atoms.dtype))

    @property
    def n_iter_(self) -> int:
        """Number of parameter updates so far."""
        check_is_fitted(self, "model_")
        return self._updates

    @property
    def _n_features_out(self) -> int:
        return self._model().latents

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _begin(self, x: np.ndarray) -> None:
        """Make model, engine and what trains them."""
        latents = x.shape[1] if self.n_components is None else self.n_components
        check_whole("n_components", latents, 1)
        if self.learning_rate is not None:
            check_positive("learning_rate", self.learning_rate)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        kind, engine = self._engine()
        training = TrainingSettings(updates=self.max_iter, lr=self.learning_rate, seed=seed, device="cpu")
        settings = RunSettings(kind, model=self._settings(latents), engine=engine, training=training)
        row = torch.zeros(1, x.shape[1])  # a run looks at the shape; each update is given its batch
        source = RowSource("X", (x.shape[1],), row, row, seed)
        run = prepare(settings, source, torch.device("cpu"), Processes(), resume=False)
        self._keep(run.model, run.engine, run, x)

    def _keep(self, model: GenerativeModel, engine: Engine, run: Run | None, x: np.ndarray) -> None:
        self.model_, self.engine_, self._run = model, engine, run
        self._asked, self._updates, self._dtype = (self.inference, self.inference_params), 0, x.dtype

    def _update(self, x: Tensor, progress: float) -> None:
        """Make one update of the parameters; `progress` says where schedules are."""
        assert self._run is not None
        try:
            step, _ = self._run.gradient(Batch(x), progress)
        except InputError as error:
            raise InputError(
                f"training diverged at update {self._updates} ({error}); scale the data, or give a learning_rate below "
                f"{self._run.schedule.lr:g}"
            ) from error
        self._run.update(step, progress)
        self._updates += 1

    def _engine(self) -> tuple[type[Engine], Any]:
        """The class and the settings of the engine that is asked for."""
        kind, steps = self.inference, None
        if not isinstance(kind, type):
            check_kind("inference", kind, str, "the name of an engine, such as 'lca-unrolled:20', or its class")
            name, steps = split_steps(kind)
            kind = engine_class(name)
        check_kind("inference_params", self.inference_params or {}, Mapping, "settings by name, {'steps': 20}, say")
        given = dict(self.inference_params or {}) | ({} if steps is None else {"steps": steps})
        known = list(getattr(kind.Settings, "__dataclass_fields__", {}))
        for name in given:
            if name not in known:
                raise InputError(
                    f"inference {described(self.inference)} was given {name} = {described(given[name])}; expected "
                    + (f"some of {', '.join(known)}" if known else "no settings, as it has none")
                )
        return kind, kind.Settings(**given)

    def _model(self) -> GenerativeModel:
        check_is_fitted(self, "model_")
        return self.model_

    def _checked(self, X: Any, reset: bool) -> np.ndarray:
        """Data (n, D) as scikit-learn takes them; `reset` where they say what D is."""
        return validate_data(self, X, dtype=DTYPES, reset=reset)  # pyright: ignore[reportReturnType]

    def _rows(self, X: ArrayLike) -> Tensor:
        self._model()  # refused where there is none
        return torch.tensor(self._checked(X, reset=False))

    @torch.no_grad()
    def _infer(self, x: Tensor) -> Inference:
        model = self._model()
        if getattr(self, "_asked", None) == (self.inference, self.inference_params):
            engine = self.engine_
        else:
            engine = self._untrained(model)
        return infer(model, engine, x, generator=torch.Generator().manual_seed(0))

    def _untrained(self, model: GenerativeModel) -> Engine:
        """An engine with nothing to learn, for a model that stands."""
        kind, settings = self._engine()
        if kind.learned:
            raise InputError(
                f"inference is {described(self.inference)}, which has to be trained with the model; call fit, or use "
                "an engine that has no parameters"
            )
        return build_engine(kind, model, settings)
