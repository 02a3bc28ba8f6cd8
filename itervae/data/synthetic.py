"""Synthetic data of which dictionary and codes are known.

A datum is x = Σ_k a_k φ_k + noise, with true atoms φ_k of unit norm in random directions and few
features a_k ≥ 0 that fire. With exactly `active` of them in each datum, sizes uniform in (0, 1), no
noise and combinations withheld, these are the data of Barin Pacela, Joshi, Camacho, Lacoste-Julien
& Klindt (2026), "Stop probing, start coding". Firing by probabilities p_k ∝ k^(−s), correlated by a
Gaussian copula of low rank, and children that need a parent, are in the manner of Chanin &
Garriga-Alonso (2026), "SynthSAEBench". Nothing is whitened or scaled.
"""

from dataclasses import fields

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from itervae.arguments import check_choice
from itervae.data.settings import DataSettings
from itervae.data.source import ATOMS, DRAWS, Fitted, RowSource, random_stream
from itervae.data.synthetic_settings import SyntheticSettings
from itervae.data.truth import Truth

FACTORS = 10
"""Rank of what correlated features have in common."""
CHUNK = 1000
"""Data that are drawn at a time."""
SPLITS = ("train", "validation", "test")


class SyntheticSource(RowSource):
    """Data of a known dictionary. They are kept as settings alone: `truth` draws them again.

    The validation set is drawn as the training data are, and so is the test set, unless
    combinations are withheld: then it has only these.
    """

    def __init__(self, settings: SyntheticSettings, val_share: float, seed: int, device: str | torch.device) -> None:
        self._settings = settings
        held = min(max(2, round(val_share * settings.num_data)), settings.num_data - 2)
        self._counts: dict[str, int] = dict(zip(SPLITS, (settings.num_data - held, held, held), strict=True))
        train, validation = (self._data(split) for split in SPLITS[:2])
        facts = {field.name: getattr(settings, field.name) for field in fields(SyntheticSettings)}
        facts["content"] = f"{settings.features} features, data seed {settings.data_seed}"
        shape = (settings.datum_size,)
        test = lambda: (self._data("test"), None)  # noqa: E731
        super().__init__("synthetic", shape, train, validation, seed, test=test, facts=facts, device=device)

    def truth(self, split: str) -> Truth:
        """Dictionary and codes of the training, validation or test data, on the CPU.

        Raises:
            InputError: another split.
        """
        check_choice("split", split, SPLITS)
        return draw_truth(self._settings, split, self._counts[split])

    def _data(self, split: str) -> Tensor:
        return draw_data(self._settings, self.truth(split), split)


def synthetic_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> SyntheticSource:
    """Data of a known dictionary, by settings that have been checked."""
    return SyntheticSource(settings, settings.val_share, seed, device)


def draw_truth(settings: SyntheticSettings, split: str, count: int) -> Truth:
    """The true dictionary, and the codes of so many data of a split; the first of more are the
    same."""
    atoms, common = _dictionary(settings)
    parts = [
        _codes(settings, common, random_stream(settings.data_seed, DRAWS, _stream(split, first)), split == "test")
        for first in range(0, count, CHUNK)
    ]
    return Truth(torch.from_numpy(atoms), torch.from_numpy(np.concatenate(parts)[:count]))


def draw_data(settings: SyntheticSettings, truth: Truth, split: str) -> Tensor:
    """x (N, D) of a truth: its codes decoded, and noise."""
    x = (truth.codes @ truth.atoms.mT).numpy()
    for first in range(0, len(x) if settings.noise else 0, CHUNK):
        part, drawn = x[first : first + CHUNK], random_stream(settings.data_seed, DRAWS, _stream(split, first, True))
        part += settings.noise * drawn.standard_normal((CHUNK, x.shape[1]), np.float32)[: len(part)]
    return torch.from_numpy(x)


def _stream(split: str, first: int, noise: bool = False) -> int:
    """The number of the stream that a chunk is drawn from."""
    return 2 * (len(SPLITS) * (first // CHUNK) + SPLITS.index(split)) + noise


def _dictionary(settings: SyntheticSettings) -> tuple[np.ndarray, np.ndarray]:
    """The atoms (D, K), and the share of each feature in what is common (K, R), all of unit
    norm."""
    drawn = random_stream(settings.data_seed, ATOMS)
    atoms = drawn.standard_normal((settings.datum_size, settings.features))
    common = drawn.standard_normal((settings.features, FACTORS))
    unit = atoms / np.linalg.norm(atoms, axis=0), common / np.linalg.norm(common, axis=1, keepdims=True)
    return unit[0].astype(np.float32), unit[1].astype(np.float32)


def _codes(settings: SyntheticSettings, common: np.ndarray, drawn: np.random.Generator, test: bool) -> np.ndarray:
    """The codes of one chunk (CHUNK, K).

    A feature fires where a standard normal number of its own, correlated with that of others, is
    above a threshold; of exactly n, where it is among the n largest.
    """
    features, share = settings.features, settings.correlation
    normal = drawn.standard_normal((CHUNK, features), np.float32)
    if share:
        factors = drawn.standard_normal((CHUNK, FACTORS), np.float32)
        normal = share**0.5 * factors @ common.T + (1 - share) ** 0.5 * normal
    scores = normal + ndtri(_probabilities(settings)).astype(np.float32)
    if settings.withhold:
        seen = features - features // 2
        leads = np.ones(CHUNK, bool) if test else drawn.random(CHUNK) < 0.5
        apart = slice(1, seen) if test else slice(seen, None)
        scores[:, 0] = np.where(leads, np.inf, -np.inf)
        scores[leads, apart] = -np.inf
    fires = scores > 0
    if settings.firing == "fixed":
        count = int(settings.active)
        fires = np.zeros_like(fires)
        np.put_along_axis(fires, np.argpartition(-scores, count - 1, axis=1)[:, :count], True, axis=1)
    for child in range(settings.parents, features if settings.children else 0):
        fires[:, child] &= fires[:, parent_of(settings, child)]
    sizes = np.full_like(normal, 0.5)
    if settings.magnitudes == "uniform":
        sizes = 1 - drawn.random(normal.shape, np.float32)
    elif settings.magnitudes == "exponential":
        sizes = 0.5 * drawn.standard_exponential(normal.shape, np.float32)
    return np.where(fires, sizes, np.float32(0))


def parent_of(settings: SyntheticSettings, child: int) -> int:
    """The feature that has to fire for a child to do so."""
    return (child - settings.parents) // settings.children


def _probabilities(settings: SyntheticSettings) -> np.ndarray:
    """How often each feature would fire by itself (K,); of a child, where its parent fires."""
    if settings.firing == "fixed":
        return np.full(settings.features, 0.5)
    ranks = np.arange(1, settings.features + 1, dtype=np.float64) ** -settings.zipf
    found = settings.active * ranks / ranks.sum()
    if settings.children:
        children = np.arange(settings.parents, settings.features)
        found[children] /= found[(children - settings.parents) // settings.children].copy()
    return np.minimum(found, 1 - 1e-9)
