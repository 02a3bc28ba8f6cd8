"""Inference as an exchangeable part: the driver, the engines, and the ways back for gradients.

`ENGINES` is the registry; only the command line and configurations use its strings.
"""

from itervae.errors import InputError
from itervae.inference.checks import check_fit, check_implicit, lacking
from itervae.inference.compile import compile_steps
from itervae.inference.driver import Inference, certificate, infer
from itervae.inference.energies.base import Energy, SolvableEnergy
from itervae.inference.energies.closed_form import CategoricalEnergy, ClosedFormEnergy, GaussianEnergy
from itervae.inference.energies.family import FamilyEnergy
from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.energies.sampled import SampledEnergy
from itervae.inference.engine import Engine, State
from itervae.inference.engines.amortized import Amortized
from itervae.inference.engines.ista import FISTAUnrolled, ISTAUnrolled
from itervae.inference.engines.lca import LCAUnrolled
from itervae.inference.engines.lista import LISTA
from itervae.inference.engines.ode import LCAODE
from itervae.inference.engines.optimal import Optimal
from itervae.inference.engines.recurrent import Recurrent
from itervae.inference.engines.semi_amortized import SemiAmortized
from itervae.inference.engines.spiking import SpikingLCA
from itervae.inference.gradients import GRADIENTS, Checkpoint, Envelope, Gradient, Implicit, Truncate, Unroll
from itervae.inference.problem import Problem
from itervae.model import GenerativeModel

ENGINES: dict[str, type[Engine]] = {
    "amortized": Amortized,
    "lca-unrolled": LCAUnrolled,
    "ista-unrolled": ISTAUnrolled,
    "fista-unrolled": FISTAUnrolled,
    "lista": LISTA,
    "recurrent": Recurrent,
    "semi-amortized": SemiAmortized,
    "lca-ode": LCAODE,
    "spiking-lca": SpikingLCA,
    "optimal": Optimal,
}


def fitting(model: GenerativeModel) -> list[str]:
    """The names of the engines that run on a model."""
    return [name for name, kind in ENGINES.items() if kind.requires <= model.capabilities]


def check_named(name: str, model: GenerativeModel) -> None:
    """Refuse an engine of the registry that cannot run on a model.

    Raises:
        InputError: names what the model lacks and the engines that fit.
    """
    if not ENGINES[name].requires <= model.capabilities:
        why = lacking(ENGINES[name], model)
        raise InputError(f"{name} {why}; engines that fit: {', '.join(fitting(model))}")


__all__ = [
    "ENGINES",
    "GRADIENTS",
    "LCAODE",
    "LISTA",
    "Amortized",
    "CategoricalEnergy",
    "Checkpoint",
    "ClosedFormEnergy",
    "Energy",
    "Engine",
    "Envelope",
    "FISTAUnrolled",
    "FamilyEnergy",
    "GaussianEnergy",
    "Gradient",
    "ISTAUnrolled",
    "Implicit",
    "Inference",
    "LCAUnrolled",
    "LassoEnergy",
    "LinearEnergy",
    "Optimal",
    "PoissonEnergy",
    "Problem",
    "Recurrent",
    "SampledEnergy",
    "SemiAmortized",
    "SolvableEnergy",
    "SpikingLCA",
    "State",
    "Truncate",
    "Unroll",
    "certificate",
    "check_fit",
    "check_implicit",
    "check_named",
    "compile_steps",
    "fitting",
    "infer",
]
