"""Inference as an exchangeable part: the driver, the engines, and the ways back for gradients.

`ENGINES` lists the engines by name.
"""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.inference.build import build_engine, check_named, engine_class, fitting
    from itervae.inference.certificates import certificate
    from itervae.inference.checks import check_fit, check_implicit
    from itervae.inference.compile import compile_steps
    from itervae.inference.driver import Inference, infer
    from itervae.inference.energies.base import Energy, Point, SolvableEnergy
    from itervae.inference.energies.closed_form import CategoricalEnergy, ClosedFormEnergy, GaussianEnergy
    from itervae.inference.energies.family import FamilyEnergy
    from itervae.inference.energies.lasso import LassoEnergy
    from itervae.inference.energies.linear import LinearEnergy
    from itervae.inference.energies.poisson import PoissonEnergy
    from itervae.inference.energies.sampled import SampledEnergy
    from itervae.inference.engine import Engine, State
    from itervae.inference.engines.amortized import Amortized
    from itervae.inference.engines.descent import Descent
    from itervae.inference.engines.ista import FISTAUnrolled, ISTAUnrolled
    from itervae.inference.engines.lca import LCAUnrolled
    from itervae.inference.engines.lista import LISTA
    from itervae.inference.engines.ode import LCAODE
    from itervae.inference.engines.optimal import Optimal
    from itervae.inference.engines.recurrent import Recurrent
    from itervae.inference.engines.semi_amortized import SemiAmortized
    from itervae.inference.engines.spiking import SpikingLCA
    from itervae.inference.gradients import Checkpoint, Envelope, Gradient, Implicit, Truncate, Unroll
    from itervae.inference.problem import Problem
    from itervae.inference.registry import ENGINES, GRADIENTS, engine_name, split_steps

__all__ = [
    "ENGINES",
    "GRADIENTS",
    "LCAODE",
    "LISTA",
    "Amortized",
    "CategoricalEnergy",
    "Checkpoint",
    "ClosedFormEnergy",
    "Descent",
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
    "Point",
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
    "build_engine",
    "certificate",
    "check_fit",
    "check_implicit",
    "check_named",
    "compile_steps",
    "engine_class",
    "engine_name",
    "fitting",
    "infer",
    "split_steps",
]
__getattr__, __dir__ = lazily(__name__)
