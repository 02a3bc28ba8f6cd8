"""Carryover on sequences that were held out: each sequence once, in folds.

Not of a paper: what a carryover gains on video that it has not seen, how much of that is contrast,
and the controls. In each fold the carryovers are trained on the other sequences, on a dictionary
that is kept as it is, and then measured together by `itervae sequence` on those of the fold. The
errors are over sequences.
"""

from dataclasses import dataclass

from experiments import SHORT, Run

SEQUENCES = (
    "blackswan", "bmx-trees", "breakdance", "car-roundabout", "cows", "dance-twirl", "dog",
    "drift-chicane", "drift-straight", "goat", "horsejump-high", "motocross-jump", "parkour", "scooter-black",
)  # fmt: skip
"""Sequences of DAVIS 2016 (validation), in the order of the alphabet; two successive ones are a
fold, so that each has the other as the clip whose past is not its own."""
CARRYOVERS = ("level", "leaky", "linear", "adaptive")
MORE = ("mixing", "gated")
"""At the larger scale alone."""


@dataclass(frozen=True)
class Fold:
    """The runs of a fold, by carryover, and the options of `itervae sequence` that measures them
    together."""

    name: str
    runs: dict[str, Run]
    measure: str


def carryover_folds(scale: str, video: str) -> list[Fold]:
    """Seven folds of two sequences, four carryovers each, six at the larger scale.

    Args:
        video: options of itervae train that name the video and the dictionary.
    """
    updates, batch, tubes, seeds = (200, 32, 16, 1) if scale == SHORT else (1000, 60, 32, 3)
    folds = []
    for seed in range(seeds):
        for number in range(len(SEQUENCES) // 2):
            held = ",".join(SEQUENCES[2 * number : 2 * number + 2])
            length = f"{updates}x{batch}-s{seed}"
            train = (
                f"{video} --val-sequences {held} --frames 16 --window 8 --inference lca-unrolled --steps 10"
                f" --updates {updates} --batch-size {batch} --seed {seed} --validate-every {updates}"
            )
            runs = {
                name: Run(f"video-fold{number}-{name}-{length}", f"{train} --carryover {name}", "", ())
                for name in (CARRYOVERS if scale == SHORT else CARRYOVERS + MORE)
            }
            folds.append(Fold(f"video-fold{number}-{length}", runs, f"--tubes {tubes} --steps 3 10"))
    return folds
