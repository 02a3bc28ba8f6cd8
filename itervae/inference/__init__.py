"""Inference as an exchangeable part: the driver, the engines, and the ways back for gradients.

`ENGINES` is the registry; only the command line and configurations use its strings.
"""

from itervae.errors import InputError
from itervae.inference.amortized import Amortized
from itervae.inference.autograd import FamilyEnergy
from itervae.inference.checks import check_fit, check_implicit, lacking
from itervae.inference.closed_form import CategoricalEnergy, ClosedFormEnergy, GaussianEnergy
from itervae.inference.compiled import compile_steps
from itervae.inference.driver import Inference, certificate, infer
from itervae.inference.energies import Energy, LinearEnergy, PoissonEnergy, SolvableEnergy
from itervae.inference.engine import Engine, State
from itervae.inference.gradients import GRADIENTS, Checkpoint, Envelope, Gradient, Implicit, Truncate, Unroll
from itervae.inference.ista import FISTAUnrolled, ISTAUnrolled
from itervae.inference.lasso import LassoEnergy
from itervae.inference.lca import LCAUnrolled
from itervae.inference.lista import LISTA
from itervae.inference.ode import LCAODE
from itervae.inference.optimal import Optimal
from itervae.inference.problem import Problem
from itervae.inference.recurrent import Recurrent
from itervae.inference.sampled import SampledEnergy
from itervae.inference.semi_amortized import SemiAmortized
from itervae.inference.spiking import SpikingLCA
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
