"""Sparse coding, as `DictionaryLearning` and `SparseCoder` have it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import Tags, check_array

from itervae.arguments import check_kind, check_positive
from itervae.errors import InputError
from itervae.inference import Engine
from itervae.model import GenerativeModel, SparseCodingSettings, sparse_coding_model
from itervae.sklearn.base import DTYPES, Estimator


class SparseCoding(Estimator):
    """Classic sparse coding, with the objective and the conventions of scikit-learn's
    `DictionaryLearning` and `SparseCoder`; its codes are the certified optimum, unless another
    engine is named.

        E(a) = ½‖x − aD‖² + alpha·‖a‖₁,    D = components_ (K, D), atoms of unit norm

    Args:
        n_components: K; as many as data have values where None.
        alpha: penalty > 0, units of the data: that of `sparse_encode` with `lasso_lars` and
            `lasso_cd`, and the threshold of the LCA, as it is.
        positive_code: codes are at least 0.
        dictionary: (K, D) atoms that stay as they are, of any norm; `fit` then learns nothing, and
            `transform` does not need it.
        inference, inference_params, max_iter, batch_size, learning_rate, random_state: as of
            `PoissonVAE`.

    Attributes:
        components_, model_, engine_, n_iter_, n_features_in_, feature_names_in_: as of
            `PoissonVAE`.

    Source: Olshausen & Field (1996), "Emergence of simple-cell receptive field properties by
    learning a sparse code for natural images".
    """

    alpha: float
    positive_code: bool
    dictionary: ArrayLike | None

    def __init__(
        self,
        n_components: int | None = None,
        *,
        alpha: float = 1.0,
        positive_code: bool = False,
        dictionary: ArrayLike | None = None,
        inference: str | type[Engine] = "optimal",
        inference_params: Mapping[str, Any] | None = None,
        max_iter: int = 1000,
        batch_size: int = 200,
        learning_rate: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            n_components=n_components,
            alpha=alpha,
            positive_code=positive_code,
            dictionary=dictionary,
            inference=inference,
            inference_params=inference_params,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            random_state=random_state,
        )

    def _settings(self, latents: int, unit_norm: bool = True) -> SparseCodingSettings:
        alpha = check_positive("alpha", self.alpha)
        check_kind("positive_code", self.positive_code, bool, "True or False")
        return SparseCodingSettings(latents, alpha, signed=not self.positive_code, unit_norm=unit_norm)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = self.dictionary is None
        return tags

    def _begin(self, x: np.ndarray) -> None:
        if self.dictionary is None:
            return super()._begin(x)
        model = self._given(x.shape[1])
        self._keep(model, self._untrained(model), None, x)

    def _model(self) -> GenerativeModel:
        given = self.dictionary is not None and not hasattr(self, "model_")
        return self._given(None) if given else super()._model()

    def _given(self, size: int | None) -> GenerativeModel:
        """The model of the dictionary that was given, for data of D values, or of any number."""
        atoms = check_array(self.dictionary, dtype=DTYPES, input_name="dictionary")
        latents, width = atoms.shape
        if size not in (None, width) or self.n_components not in (None, latents):
            raise InputError(
                f"dictionary has shape {atoms.shape}; expected (n_components, n_features), here "
                f"({self.n_components or 'any'}, {size or 'any'}), one atom a row: transpose it, or give another"
            )
        settings = self._settings(latents, unit_norm=False)
        return sparse_coding_model(torch.tensor(atoms).mT, settings, (width,)).requires_grad_(False)
