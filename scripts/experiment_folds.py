"""Carryover on sequences that were held out: each sequence once, in folds.

Not of a paper: what a carryover gains on video that it has not seen, how much of that is contrast,
and the controls. In each fold the carryovers are trained on the other sequences, on a dictionary
that is kept as it is, and then measured together by `itervae sequence` on those of the fold: on
patches (`carryover`), or on whole frames under a convolutional dictionary (`film`). The errors are
over sequences.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiment_tables import Results, markdown
from experiments import LONG, SHORT, Run

from itervae.evaluation.sequences import OverSequences

SEQUENCES = (
    "blackswan", "bmx-trees", "breakdance", "car-roundabout", "cows", "dance-twirl", "dog",
    "drift-chicane", "drift-straight", "goat", "horsejump-high", "motocross-jump", "parkour", "scooter-black",
)  # fmt: skip
"""Sequences of DAVIS 2016 (validation), in the order of the alphabet; two successive ones are a
fold, so that each has the other as the clip whose past is not its own."""
BEYOND = "gain beyond `level`"


@dataclass(frozen=True)
class Plan:
    """An experiment in folds.

    Attributes:
        title: of its table.
        prefix: of the names of its runs.
        carryovers: options of itervae train, by the name that the table has.
        updates, batch, seeds: how long and how often each is trained.
        train, measure: the other options of itervae train and of itervae sequence.
    """

    title: str
    prefix: str
    carryovers: Mapping[str, str]
    updates: int
    batch: int
    seeds: int
    train: str
    measure: str


def _named(*names: str) -> dict[str, str]:
    return {name: f"--carryover {name}" for name in names}


HELD = "Carryover on sequences that were held out, each once"
FILM = _named("level") | {
    "diagonal": "--carryover linear --map diagonal",
    "diagonal-reach2": "--carryover linear --map diagonal --reach 2",
    "full-reach2": "--carryover linear --map full --reach 2",
}
TUBES, CROPS = "--frames 16 --window 8", "--frames 6 --window 6 --patch-size 64"
WHOLE = "--whole --optima --certificate 1e-3"
PLANS: dict[str, dict[str, Plan]] = {
    "carryover": {
        SHORT: Plan(
            HELD, "video", _named("level", "leaky", "linear", "adaptive"), 200, 32, 1, TUBES, "--tubes 16 --steps 3 10"
        ),
        LONG: Plan(
            HELD,
            "video",
            _named("level", "leaky", "linear", "adaptive", "mixing", "gated"),
            1000,
            60,
            3,
            TUBES,
            "--tubes 32 --steps 3 10",
        ),
    },
    "film": {
        SHORT: Plan(f"{HELD}, whole frames", "film", FILM, 60, 4, 1, CROPS, WHOLE),
        LONG: Plan(f"{HELD}, whole frames", "film", FILM, 500, 16, 3, CROPS, f"{WHOLE} --tubes 4"),
    },
}


@dataclass(frozen=True)
class Fold:
    """The runs of a fold, by carryover, and the options of `itervae sequence` that measures them
    together."""

    name: str
    runs: dict[str, Run]
    measure: str

    def named(self, reports: Mapping[str, Any]) -> dict[str, Any]:
        """What `itervae sequence` reports by carryover, under the names of the runs: there it has
        the name of the carryover and, where several runs have that, the folder beside."""
        kinds = {name: run.train.split("--carryover ")[1].split()[0] for name, run in self.runs.items()}
        alone = {name: list(kinds.values()).count(kind) == 1 for name, kind in kinds.items()}
        keys = {kind if alone[name] else f"{kind} ({self.runs[name].name})": name for name, kind in kinds.items()}
        return {keys.get(key, key): found for key, found in reports.items()}


def folds_of(plan: Plan, video: str) -> list[Fold]:
    """Seven folds of two sequences.

    Args:
        video: options of itervae train that name the video and the dictionary.
    """
    folds = []
    for seed in range(plan.seeds):
        for number in range(len(SEQUENCES) // 2):
            held = ",".join(SEQUENCES[2 * number : 2 * number + 2])
            length = f"{plan.updates}x{plan.batch}-s{seed}"
            train = (
                f"{video} --val-sequences {held} {plan.train} --inference lca-unrolled --steps 10"
                f" --updates {plan.updates} --batch-size {plan.batch} --seed {seed} --validate-every {plan.updates}"
            )
            runs = {
                name: Run(f"{plan.prefix}-fold{number}-{name}-{length}", f"{train} {options}", "", ())
                for name, options in plan.carryovers.items()
            }
            folds.append(Fold(f"{plan.prefix}-fold{number}-{length}", runs, plan.measure))
    return folds


def carryover_table(found: Results) -> str:
    """What each carryover gains over all sequences, and on each of them."""
    measured: dict[str, list[dict[str, Any]]] = {}  # sequence → its reports by carryover, one a seed
    for fold in found.values():
        for name, reports in fold["report"]["sequences"].items():
            measured.setdefault(name, []).append(reports)
    first = next(iter(found.values()))
    names = list(first["trained"])

    def each(what: Callable[[dict[str, Any], dict[str, Any]], float], name: str) -> list[float]:
        """A number of each sequence, from its reports of none and of a carryover; mean over
        seeds."""
        return [sum(what(r["none"], r[name]) for r in reports) / len(reports) for reports in measured.values()]

    def below(key: str) -> Callable[[dict[str, Any], dict[str, Any]], float]:
        return lambda none, own: none["optimum"] - own[key]

    columns: dict[str, Callable[[dict[str, Any], dict[str, Any]], float]] = {
        "gain": below("optimum"),
        BEYOND: lambda _, own: own["beyond_level"],
        "past of another clip": below("shuffled_optimum"),
        "shuffled within the clip": below("within_optimum"),
    }
    stepped = all(r["none"]["at_steps"] for reports in measured.values() for r in reports)
    if stepped:
        columns |= {
            "at 3 steps, below none at 3": lambda none, own: none["at_steps"]["3"] - own["at_steps"]["3"],
            "at 3 steps, below none at its optimum": lambda none, own: none["optimum"] - own["at_steps"]["3"],
        }
    over = []
    for name in names:
        shown = [told(each(of, name)) for of in columns.values()]
        if name == "level":
            shown[list(columns).index(BEYOND)] = ""
        over.append([f"`{name}`", *shown])
    gains = {name: each(below("optimum"), name) for name in names}
    last = names[-1]
    controls = [each(below(key), last) for key in ("shuffled_optimum", "within_optimum")]
    none = each(lambda none, _: none["optimum"], last)
    rows = [
        [sequence, *(f"{value[index]:.1f}" for value in (none, *gains.values(), *controls))]
        for index, sequence in enumerate(measured)
    ]
    seeds, frames = len({name.rsplit("-s", 1)[1] for name in found}), first["report"]["frames"]
    updates = next(iter(first["trained"].values()))["updates"]
    certificate = max(fold["report"]["certificate_max"] for fold in found.values())
    scale = (
        f"{len(measured)} sequences in {len(found) // seeds} folds, {updates} updates, "
        f"{first['report']['tubes']} tubes of {frames} frames of each, {seeds} training seed{'s' * (seeds > 1)}"
    )
    note = (
        f"Nats per frame, frames 2 to {frames}, each at its best posterior (certified to {certificate:.1g})"
        f"{' but in the last two columns' * stepped}: mean over sequences ± standard error over sequences, and on how"
        " many of them it is above 0. All but the second column are below `none`: with the own past, with that of"
        " another clip, with that of frames of the same clip in another order. Published: nothing of the kind."
        f" Scale: {scale}."
    )
    by_sequence = f"By sequence: `none`, by how much each is below it, and `{last}` with either wrong past."
    headings = ["sequence", "`none`", *(f"`{name}`" for name in names), "another clip", "shuffled"]
    overall = markdown(["prior of a frame", *columns], over)
    return "\n\n".join([note, overall, by_sequence, markdown(headings, rows)])


def told(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard error over sequences, and how many are above 0."""
    found = OverSequences.of(values)
    mean, error = (f"{value:.{digits}f}" for value in (found.mean, found.standard_error))
    return f"{mean} ± {error} ({found.above_zero} of {found.sequences})"
