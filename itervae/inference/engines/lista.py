"""Learned ISTA on the Poisson free energy and on the lasso: FISTA whose step sizes, thresholds and
momentum are learned.

Gregor & LeCun (2010), "Learning fast approximations of sparse coding": iterations of ISTA as the
layers of a network. Here the shrinkage is that of the energy, Lambert-W or soft, and Φ stays that
of the model, so a trained engine runs on any dictionary. Each layer learns a few scalars, and a
small network that modulates them by each latent's own state, as in iterative amortized inference
(Marino, Yue & Mandt 2018, "Iterative amortized inference").
"""

from typing import Any

import torch
from torch import Tensor, nn

from itervae.arguments import check_fields, check_whole
from itervae.errors import InputError
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.engine import State
from itervae.inference.engines.learned import FEATURES, MODULATIONS, REACH, LearnedProximal, proximal_features
from itervae.inference.settings import LISTASettings
from itervae.model import GenerativeModel


class Layer(nn.Module):
    """The parameters of one layer; all are zero before training but the inner weights of the
    network.

    Args:
        hidden: width of the network, 0 for none.
        mixed: K, to learn a matrix (K, K) besides; 0 for none.
        maps: of a convolutional dictionary, each with scalars of its own, which its places share; 0
            for scalars that all latents share.
    """

    reach: Tensor

    def __init__(self, hidden: int, mixed: int, maps: int = 0) -> None:
        super().__init__()
        self.maps = maps
        self.scalars = nn.Parameter(torch.zeros(*([maps] if maps else []), MODULATIONS))
        self.register_buffer("reach", torch.tensor(REACH), persistent=False)
        self.network = None
        if hidden:
            self.network = nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, MODULATIONS))
            for parameter in self.network[-1].parameters():
                nn.init.zeros_(parameter)
        self.mixing = nn.Parameter(torch.zeros(mixed, mixed)) if mixed else None

    def forward(self, energy: LinearEnergy, state: State) -> Tensor:
        """The modulations of log-curvature, threshold and momentum (B, K, 3)."""
        scalars = self.scalars
        if self.maps:
            scalars = scalars.repeat_interleave(state.u.shape[1] // self.maps, 0)
        if self.network is None:
            return scalars.expand(*state.u.shape, MODULATIONS)
        features = proximal_features(energy, state).to(scalars.dtype)
        return scalars + self.reach * self.network(features).tanh()


class LISTA(LearnedProximal):
    """Proximal steps with learned step size, threshold and momentum, safeguarded; then steps of the
    LCA.

    Layer i gives α, δ and γ of `LearnedProximal` for each latent, by three scalars and a network of
    the latent's own state. Of a convolutional dictionary each map has scalars of its own, at all
    its places. Before training its layers are steps of `fista-unrolled`, exactly.
    """

    Settings = LISTASettings

    def __init__(
        self,
        steps: int = LISTASettings.steps,
        tied: bool = LISTASettings.tied,
        hidden: int = LISTASettings.hidden,
        matrices: bool = LISTASettings.matrices,
        latents: int = 0,
        maps: int = 0,
    ) -> None:
        super().__init__(steps)
        check_whole("hidden", hidden)  # 0: learned scalars alone
        check_whole("latents", latents)
        check_whole("maps", maps)
        if matrices and not latents:
            raise InputError("latents is 0, and matrices are K × K; expected the number of latents K of the model")
        self.maps = maps
        mixed = (maps or latents) if matrices else 0
        self.layers = nn.ModuleList(Layer(hidden, mixed, maps) for _ in range(1 if tied else steps))

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "LISTA":
        check_fields(settings, cls.Settings)
        return cls(**vars(settings), latents=model.latents, maps=model.prior.maps if model.convolutional else 0)

    def modulate(self, energy: LinearEnergy, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        if self.maps not in (0, energy.maps):
            raise InputError(
                f"this engine has scalars for {self.maps} maps and the model has {energy.maps}; train it on this model"
            )
        return self._layer(state)(energy, state), {}

    def corrected(self, energy: LinearEnergy, state: State, data_gradient: Tensor) -> Tensor:
        mixing = self._layer(state).mixing
        if mixing is None:
            return data_gradient
        latents = energy.maps if self.maps else data_gradient.shape[1]
        if len(mixing) != latents:
            raise InputError(
                f"the matrices of this engine are for {len(mixing)} latents and the model has {latents}; train it on "
                "this model, or without `matrices`"
            )
        mixing = mixing.to(data_gradient.dtype)
        if not self.maps:
            return data_gradient + data_gradient @ mixing
        by_map = data_gradient.unflatten(1, (self.maps, data_gradient.shape[1] // self.maps))  # (B, maps, P)
        return data_gradient + torch.einsum("bmp,mn->bnp", by_map, mixing).flatten(1)

    def _layer(self, state: State) -> Layer:
        layer = self.layers[state.step_count % len(self.layers)]
        assert isinstance(layer, Layer)
        return layer
