"""Defaults of engines stand once, and the choices of settings are those of the registries."""

import dataclasses
import inspect
import typing

import pytest

from itervae.arguments import listed, setting_kinds
from itervae.inference import ENGINES, LCAODE, LISTA, Amortized, Recurrent, SemiAmortized, SpikingLCA
from itervae.inference.engines.encoders import ENCODERS
from itervae.inference.engines.ode import ATOL, RTOL
from itervae.inference.engines.semi_amortized import REFINERS

BUILT = (Amortized, SemiAmortized)
"""Engines that are made of modules, which `build` makes of their settings."""


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_made_without_settings_has_the_default_ones(name):
    kind = ENGINES[name]
    settings = {field.name: field.default for field in dataclasses.fields(kind.Settings)}
    if kind in BUILT:
        return
    parameters = inspect.signature(kind).parameters
    assert {name: parameters[name].default for name in settings} == settings
    beyond = set(parameters) - set(settings)
    of_the_model = {LISTA: {"latents", "maps"}, Recurrent: {"parts"}, SpikingLCA: {"units"}}
    assert beyond == of_the_model.get(kind, set())


@pytest.mark.parametrize(
    ("kind", "setting", "registry"),
    [(Amortized, "encoder", ENCODERS), (SemiAmortized, "start_encoder", ENCODERS), (SemiAmortized, "refine", REFINERS)],
)
def test_choices_are_the_registry(kind, setting, registry):
    (hint, *_) = setting_kinds(typing.get_type_hints(kind.Settings, include_extras=True)[setting])
    hint = listed(hint)
    choices = [choice for part in (typing.get_args(hint) or (hint,)) for choice in (typing.get_args(part) or (part,))]
    assert [choice for choice in choices if isinstance(choice, str)] == list(registry)


def test_the_help_of_lca_ode_has_the_default_tolerances():
    source = inspect.getsource(LCAODE.Settings)
    assert f"Relative tolerance of an adaptive method, {RTOL:.0e} by default".replace("e-0", "e-") in source
    assert f"Absolute tolerance of an adaptive method, {ATOL:.0e} by default".replace("e-0", "e-") in source
