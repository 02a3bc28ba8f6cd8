"""Variational autoencoders: Poisson counts, and Gaussian latents."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from itervae.inference import Engine
from itervae.model import GaussianVAESettings, ModelSettings, PoissonVAESettings
from itervae.sklearn.base import Estimator


class PoissonVAE(Estimator):
    """A Poisson variational autoencoder with a linear decoder; its codes are posterior mean rates.

        F = E_q‖x − Φz‖²/2σ² + β·KL(Pois(λ) ‖ Pois(r)),    z ~ Pois(λ), with prior rates r learned

    Args:
        n_components: K; as many as data have values where None.
        inference: the engine: a name of `itervae.inference.ENGINES`, with or without a number of
            steps ("lca-unrolled:50"), MODULE:CLASS, or a class. It is trained with the model where
            it has parameters. An engine that has none can be set after `fit`, and is then that of
            `transform` and `score`: `set_params(inference="optimal")`.
        inference_params: settings of the engine by name, {"tolerance": 1e-9}, say.
        observation_variance: σ² > 0, squared units of the data.
        beta: β > 0, the weight of the KL.
        max_iter: number of parameter updates of `fit`.
        batch_size: data of an update, all where there are fewer.
        learning_rate: peak of Adamax's, which learns an encoder and, after 30% of fit, a dictionary
            that solvers infer with; that of `itervae train` where None.
        random_state: of the start and the order of the data; an int makes `fit` repeatable.

    Attributes:
        components_: dictionary Φᵀ (K, D), one atom a row.
        model_, engine_: as learned, a `GenerativeModel` and an `Engine` of itervae.
        n_iter_: parameter updates so far.
        n_features_in_, feature_names_in_: of the data, as scikit-learn has them.

    Source: Vafaii, Galor & Yates (2024), "Poisson variational autoencoder".
    """

    observation_variance: float
    beta: float

    def __init__(
        self,
        n_components: int | None = None,
        *,
        inference: str | type[Engine] = "lca-unrolled",
        inference_params: Mapping[str, Any] | None = None,
        observation_variance: float = 0.5,
        beta: float = 1.0,
        max_iter: int = 1000,
        batch_size: int = 200,
        learning_rate: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            n_components=n_components,
            inference=inference,
            inference_params=inference_params,
            observation_variance=observation_variance,
            beta=beta,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            random_state=random_state,
        )

    def _settings(self, latents: int) -> ModelSettings:
        return PoissonVAESettings(latents, observation_variance=self.observation_variance, beta=self.beta)


class GaussianVAE(Estimator):
    """A Gaussian variational autoencoder with a linear decoder, probabilistic PCA but for posterior
    latents that are independent; its codes are posterior means.

        F = E_q‖x − Φz‖²/2σ² + β·KL(N(μ, diag v) ‖ N(0, 1)),    z ~ N(μ, diag v)

    Args:
        n_components, inference, inference_params, observation_variance, beta, max_iter, batch_size,
            learning_rate, random_state: as of `PoissonVAE`. The best posterior has a closed form,
            which the engine `optimal` gives.

    Attributes:
        components_, model_, engine_, n_iter_, n_features_in_, feature_names_in_: as of
            `PoissonVAE`.

    Source: Kingma & Welling (2014), "Auto-encoding variational Bayes".
    """

    observation_variance: float
    beta: float

    def __init__(
        self,
        n_components: int | None = None,
        *,
        inference: str | type[Engine] = "optimal",
        inference_params: Mapping[str, Any] | None = None,
        observation_variance: float = 0.5,
        beta: float = 1.0,
        max_iter: int = 1000,
        batch_size: int = 200,
        learning_rate: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            n_components=n_components,
            inference=inference,
            inference_params=inference_params,
            observation_variance=observation_variance,
            beta=beta,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            random_state=random_state,
        )

    def _settings(self, latents: int) -> ModelSettings:
        return GaussianVAESettings(latents, observation_variance=self.observation_variance, beta=self.beta)
