"""Active-set steps on the lasso, for the data that first-order steps have brought near their
support.

Feature-sign search (Lee, Battle, Raina & Ng 2007, "Efficient sparse coding algorithms") for a batch
of data at once: on the active units with their signs fixed, E is quadratic, and its minimum the
solution of a small linear system. A proximal step first lets units in, and a unit whose sign would
turn leaves. Each datum has a system of its own; those of about the same number of active units are
solved together.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.inference.energies.base import Point, choose, pick
from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.energies.linear import rises
from itervae.inference.systems.jacobian import SYSTEM_BYTES
from itervae.model import matrix

ENTERING = 16
"""Number of units that may enter in one step, those of the largest gradients; half the number of
active units where that is more."""
ROUNDS = 5
"""Largest number of systems solved in a step, while units leave."""
CROSSINGS = (0, 1, 3, 7, 15, 31)
"""Ranks, from 0, of the points that are tried where E does not fall at the minimum: those on the
way there at which a unit reaches 0, in order."""
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Bounds, in active units, between the groups of data whose systems are solved together."""
RIDGE = 1e-13
"""Relative ridge of the systems, with which two equal atoms are as good as one."""


@torch.no_grad()
def active_set_step(
    energy: LassoEnergy, u: Float[Tensor, "batch latents"], point: Point
) -> tuple[Float[Tensor, "batch latents"], Point]:
    """One active-set step per datum: E falls, or the datum stays.

    Args:
        energy: the problem, float64, with a soft threshold and a dense dictionary.
        u: membrane potentials (B, K), and `point`, the energy evaluated there.

    Returns:
        The next potentials and the energy there, as `LassoEnergy.at` has them.
    """
    drive, mean, data_gradient = energy.quadratic.drive(), point.mean, point.data_gradient
    size = data_gradient.abs() if energy.sparsity.signed else -data_gradient
    active = mean != 0
    waiting = ~active & (size > energy.threshold)
    number = active.sum(1)
    number = number + torch.minimum(waiting.sum(1), (number // 2).clamp_min(ENTERING))
    order = torch.where(active, torch.inf, torch.where(waiting, size, -1))
    moved = energy.activation(energy.proximal_step(mean, data_gradient, _bound(energy)))
    new = torch.zeros_like(mean)
    for rows, width in _groups(number, energy.quadratic.operator.size):
        units = order[rows].topk(width).indices
        within = torch.arange(width, device=mean.device) < number[rows][:, None]
        start = torch.where(within, moved[rows].gather(1, units), 0)
        found = _descend(_systems(energy, rows, units), drive[rows].gather(1, units), start, energy.threshold)
        new[rows] = torch.zeros_like(mean[rows]).scatter_(1, units, found)
    slope = energy.quadratic.gradient(new)[0]
    potential, after = energy.at(new, slope, 0.5 * (slope - drive).mul_(new).sum(-1) + energy.quadratic.offset)
    risen = rises(energy, point, after)[:, None]
    return pick(risen, u, potential), choose(risen, point, after)


def _bound(energy: LassoEnergy) -> Tensor:
    """A number, or one of each datum (B, 1), that no eigenvalue of ΦᵀΦ exceeds."""
    if (gram := energy.quadratic.terms.gram) is not None:
        return gram.abs().sum(1).amax()
    dictionary, weights = matrix(energy.quadratic.operator)
    bound = dictionary.abs().sum(0).amax() * dictionary.abs().sum(1).amax()
    return bound if weights is None else bound * weights.square().amax(1, keepdim=True)


def _systems(energy: LassoEnergy, rows: Tensor, units: Tensor) -> Tensor:
    """The Gram matrices (b, m, m) of some units (b, m) of some data, of that of all where there is
    one, else of the atoms."""
    if (gram := energy.quadratic.terms.gram) is not None:
        return gram[units[:, :, None], units[:, None, :]]
    dictionary, weights = matrix(energy.quadratic.operator)
    atoms = dictionary.mT[units]
    if weights is not None:
        atoms = atoms * weights[rows][:, None, :]
    return atoms @ atoms.mT


def _groups(number: Tensor, size: int) -> Iterator[tuple[Tensor, int]]:
    """The rows of data with about the same number of active units, and the largest of these
    numbers, group by group; data without any are in none. Systems, and atoms of `size` values each,
    fit `SYSTEM_BYTES`."""
    bounds = torch.tensor(WIDTHS, device=number.device)
    group = torch.where(number > 0, torch.bucketize(number, bounds), -1)
    for one in group.unique().tolist():
        if one >= 0:
            rows = (group == one).nonzero()[:, 0]
            width = int(number[rows].max())
            for part in rows.split(max(1, SYSTEM_BYTES // (8 * width * max(width, size)))):
                yield part, width


def _descend(system: Tensor, drive: Tensor, a: Tensor, threshold: Tensor) -> Tensor:
    """The codes (b, m) after steps that lower ½aᵀGa − drive·a + θ‖a‖₁ from a (b, m), G (b, m, m).

    Zeros of a stay. A step goes towards the minimum with the signs of a, where units whose sign
    would turn are set to 0; data that units have left take another.
    """
    a, rows = a.clone(), torch.arange(len(a), device=a.device)
    for _ in range(ROUNDS):
        here = _Quadratic(system[rows], drive[rows], threshold)
        old = a[rows]
        target = here.minimum(old)
        crossing = torch.where(target * old < 0, old / (old - target), torch.inf)  # the share of the way to 0
        new = torch.where(crossing <= 1, 0, target)
        short = (~(here.energy(new) < here.energy(old))).nonzero()[:, 0]
        if len(short):  # up to where one unit leaves E falls, and perhaps to where more have left
            new[short] = here.select(short).best(old[short], target[short], crossing[short])
        a[rows] = new
        rows = rows[((new == 0) & (old != 0)).any(1)]
        if not len(rows):
            break
    return a


class _Quadratic(NamedTuple):
    """The energy ½aᵀGa − drive·a + θ‖a‖₁ of some data, each with its own G."""

    system: Tensor
    drive: Tensor
    threshold: Tensor

    def select(self, rows: Tensor) -> "_Quadratic":
        return _Quadratic(self.system[rows], self.drive[rows], self.threshold)

    def energy(self, a: Tensor) -> Tensor:
        """The energy (b,) at a (b, m)."""
        product = torch.bmm(self.system, a[:, :, None])[:, :, 0]
        return (a * (0.5 * product - self.drive) + self.threshold * a.abs()).sum(1)

    def minimum(self, a: Tensor) -> Tensor:
        """The minimum with the signs and zeros of a (b, m); a itself where that cannot be solved
        for."""
        active = (a != 0).to(a.dtype)
        matrix = self.system * (active[:, :, None] * active[:, None, :])
        scale = self.system.diagonal(dim1=1, dim2=2).amax(1, keepdim=True)
        matrix.diagonal(dim1=1, dim2=2).add_((1 - active + RIDGE) * scale)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        right = (self.drive - self.threshold * a.sign()) * active
        found = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
        return torch.where((failed == 0)[:, None], found, a)

    def best(self, a: Tensor, target: Tensor, crossing: Tensor) -> Tensor:
        """The best of a and of points on the way to `target`, at some of the crossings of zero."""
        best, value = a, self.energy(a)
        ordered = crossing.sort(1).values.clamp_max(1)
        for rank in CROSSINGS:
            if rank < ordered.shape[1]:
                share = ordered[:, rank : rank + 1]
                tried = torch.where(crossing <= share, 0, torch.lerp(a, target, share))
                reached = self.energy(tried)
                lower = reached < value
                best, value = torch.where(lower[:, None], tried, best), torch.where(lower, reached, value)
        return best
