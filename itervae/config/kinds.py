"""What decides which settings a run has, and what is said of a setting that it does not have."""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from itervae.data import DataSettings, source_kind
from itervae.errors import InputError
from itervae.inference.registry import ENGINES, engine_name, engine_settings, known_engine, split_steps
from itervae.model import MODELS, families
from itervae.sequence import CARRYOVERS, SequenceSettings
from itervae.training.checks import without_order
from itervae.training.groups import check_names, groups_of

DEFAULT_INFERENCE, DEFAULT_ENCODED = "lca-unrolled", "amortized"
"""Engines by default, of the Poisson family and sparse coding, and of the others, which have no
solver."""
DEFAULT_MODEL, DEFAULT_DATA, DEFAULT_CARRYOVER = "poisson-vae", "photos", "none"
COMMAND = ("config", "resume", "run_dir", "family", "own")
"""Options of the command that are not settings of the run."""


@dataclass(frozen=True)
class Kinds:
    """The engine, model, data and carryover of a run, which decide its settings; an engine of a
    user's own is its class."""

    engine: str | type
    model: str
    data: str
    carryover: str

    @classmethod
    def of(cls, values: Mapping[str, Any], own: Mapping[str, type]) -> "Kinds":
        """Those that some settings name, or the defaults; `own` are the classes of a user's own, by
        their names.

        Raises:
            InputError: an unknown engine or model, or an engine of a user's own whose settings
                clash with others.
        """
        model = values.get("model", DEFAULT_MODEL)
        inference = values.get("inference", _default_inference(model))
        engine = own.get(inference) or known_engine(inference)
        check_name("model", model, MODELS)
        data, carryover = values.get("data", DEFAULT_DATA), values.get("carryover", DEFAULT_CARRYOVER)
        found = cls(  # an unknown name of data or carryover is refused where options are
            engine,
            model,
            data if isinstance(data, str) and source_kind(data) else DEFAULT_DATA,
            carryover if carryover in CARRYOVERS else DEFAULT_CARRYOVER,
        )
        if isinstance(engine, type):
            check_names(engine, found.groups)
        return found

    @property
    def groups(self) -> list[type]:
        """The settings classes."""
        return groups_of(self.engine, self.model, self.carryover)

    @property
    def names(self) -> list[str]:
        """Every setting that a file of such a run may have: files are written whole, with all
        settings of data and of sequences."""
        return ["inference", "model", *(setting.name for group in self.groups for setting in fields(group))]

    def check_option(self, name: str, show: Callable[[str], str]) -> None:
        """Refuse an option that is given and does not apply, whatever its value.

        Raises:
            InputError: says to what it does apply, or which name is near.
        """
        if name not in self.names and name not in COMMAND:
            raise self.unknown(show(name), name, show)
        if name in _names(SequenceSettings) and not DataSettings(self.data).sequential:
            raise without_order(name, self.data)

    def unknown(self, shown: str, name: str, show: Callable[[str], str]) -> InputError:
        """The error of a setting that these do not have."""
        inference = engine_name(self.engine)
        for what, chosen, known in (
            (
                "inference",
                inference,
                {**{other: engine_settings(other) for other in ENGINES}, inference: engine_settings(self.engine)},
            ),
            ("model", self.model, MODELS),
            ("carryover", self.carryover, {other: CARRYOVERS.settings(other) for other in CARRYOVERS}),
        ):
            elsewhere = [other for other, kind in known.items() if name in _names(kind)]
            if elsewhere:
                own = ", ".join(map(show, _names(known[chosen]))) or "none"
                return InputError(
                    f"{shown} does not apply to {what} {chosen}, whose own settings are {own}; leave it out, or use "
                    f"one of {', '.join(elsewhere)}"
                )
        near = difflib.get_close_matches(name, self.names if show is str else [*self.names, *COMMAND], 1, cutoff=0.5)
        hint = f"did you mean {show(near[0])}?" if near else "see itervae train --help for the names"
        return InputError(f"{shown} is not a setting; {hint}")


def named_model(given: Mapping[str, Any]) -> Any:
    """The model that is named, by itself or by the family of a VAE; None where neither is."""
    family, model = given.get("family"), given.get("model")
    if family is None:
        return model
    check_name("family", family, families())
    if model not in (None, f"{family}-vae"):
        raise InputError(f"family {family} was given beside model {model}; leave one of them out")
    return f"{family}-vae"


def spell_steps(values: dict[str, Any], show: Callable[[str], str]) -> dict[str, Any]:
    """Write ENGINE:STEPS among some settings as the two that it stands for; what was added.

    Raises:
        InputError: the steps are given beside it.
    """
    if not isinstance(values.get("inference"), str):
        return {}
    name, steps = split_steps(values["inference"])
    if steps is None:
        return {}
    if "steps" in values:
        raise InputError(
            f"{show('inference')} {values['inference']} was given beside {show('steps')} {values['steps']}; leave one "
            "of the numbers of steps out"
        )
    values |= {"inference": name, "steps": steps}
    return {"steps": steps}


def check_name(what: str, name: Any, known: Collection[str]) -> None:
    """Refuse an unknown name, and say which is near."""
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{what} {name!r} is unknown; {hint}expected one of {', '.join(known)}")


def _default_inference(model: Any) -> str:
    return DEFAULT_INFERENCE if model in (DEFAULT_MODEL, "sparse-coding") else DEFAULT_ENCODED


def _names(kind: type) -> list[str]:
    return [setting.name for setting in fields(kind)]
