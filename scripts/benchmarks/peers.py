"""Other solvers of the lasso, each at its own best: in single and double precision, with the
loosest of its settings.

scikit-learn cd     coordinate descent: `sparse_encode(algorithm="lasso_cd")`, with `tol` free
scikit-learn lars   `sparse_encode(algorithm="lasso_lars")`, exact but for rounding
spams lars          `spams.lasso`, a homotopy, exact but for rounding
spams cd            `spams.cd`, signed codes only
celer               `celer.celer_path` at one penalty, working sets, extrapolated dual points; one
                    datum a call
"""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

Codes = np.ndarray
Setting = dict[str, float]  # of the solver's own arguments


@dataclass(frozen=True)
class Problem:
    """½‖x − Φa‖² + θ‖a‖₁ for each datum: x (N, D) and atoms (D, K) in double precision, start (N,
    K) or None."""

    x: np.ndarray
    atoms: np.ndarray
    threshold: float
    signed: bool
    start: np.ndarray | None = None


@dataclass(frozen=True)
class Side:
    """A way to solve the first `data` data of a problem; `solve` gives their codes."""

    name: str
    setting: str
    data: int
    solve: Callable[[], Codes]

    @property
    def key(self) -> str:
        return f"{self.name}, {self.setting}" if self.setting else self.name


@dataclass(frozen=True)
class Peer:
    """A peer: `solve(problem, setting)`; its `package`; the `settings` to try, for each precision,
    from the loosest on; how many data at most it is run on; whether it takes a start, or only
    signed codes."""

    package: str
    solve: Callable[[Problem, Setting], Codes]
    settings: dict[str, list[Setting]]
    data: int = 10**9
    starts: bool = False
    signed_only: bool = False


def sides(name: str, problem: Problem) -> Iterator[list[Side]]:
    """For each precision the sides of a peer, from the loosest setting on."""
    peer = PEERS[name]
    for precision, settings in peer.settings.items():
        given = _cast(problem, precision, peer.data)
        texts = [", ".join([precision, *(f"{key} {value:.2g}" for key, value in one.items())]) for one in settings]
        pairs = zip(texts, settings, strict=True)
        yield [Side(name, text, len(given.x), partial(peer.solve, given, one)) for text, one in pairs]


def fits(name: str, problem: Problem) -> str:
    """Why a peer has no figure for a problem, or nothing."""
    peer = PEERS[name]
    if find_spec(peer.package) is None:
        return "absent"
    if problem.start is not None and not peer.starts:
        return "takes no start"
    return "signed only" if peer.signed_only and not problem.signed else ""


def _cast(problem: Problem, precision: str, most: int) -> Problem:
    def cast(value: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(value, dtype=precision)

    start = None if problem.start is None else cast(problem.start[:most])
    return Problem(
        cast(problem.x[:most]), np.asfortranarray(cast(problem.atoms)), problem.threshold, problem.signed, start
    )


def _sklearn_cd(problem: Problem, setting: Setting) -> Codes:
    gram = problem.atoms.T @ problem.atoms

    def part(rows: slice) -> Codes:
        solver = Lasso(
            alpha=problem.threshold / len(problem.atoms),
            fit_intercept=False,
            precompute=gram,
            max_iter=10_000,
            warm_start=True,
            positive=not problem.signed,
            **setting,
        )
        if problem.start is not None:
            solver.coef_ = problem.start[rows].copy()
        return solver.fit(problem.atoms, problem.x[rows].T, check_input=False).coef_

    with warnings.catch_warnings():  # where single precision ends; whether the gap is reached is seen afterwards
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _in_parts(part, len(problem.x))


def _sklearn_lars(problem: Problem, setting: Setting) -> Codes:
    return sparse_encode(
        problem.x,
        problem.atoms.T,
        algorithm="lasso_lars",
        alpha=problem.threshold,
        positive=not problem.signed,
        n_jobs=torch.get_num_threads(),
    )


def _spams_lars(problem: Problem, setting: Setting) -> Codes:
    import spams

    options = {"lambda1": problem.threshold, "mode": 2, "pos": not problem.signed}
    found = spams.lasso(problem.x.T, D=problem.atoms, numThreads=torch.get_num_threads(), **options)
    return found.toarray().T


def _spams_cd(problem: Problem, setting: Setting) -> Codes:
    import spams
    from scipy.sparse import csc_matrix

    shape = (problem.atoms.shape[1], len(problem.x))
    start = csc_matrix(shape, dtype=problem.x.dtype) if problem.start is None else csc_matrix(problem.start.T)
    options = {"lambda1": problem.threshold, "mode": 2, "numThreads": torch.get_num_threads()}
    return spams.cd(problem.x.T, problem.atoms, start, **options, **setting).toarray().T


def _celer(problem: Problem, setting: Setting) -> Codes:
    from celer import celer_path

    options = {"alphas": [problem.threshold / len(problem.atoms)], "max_iter": 100, **setting}

    def part(rows: slice) -> Codes:
        starts = [None] * len(problem.x) if problem.start is None else problem.start.copy()
        pairs = zip(problem.x[rows], starts[rows], strict=True)
        each = (
            celer_path(problem.atoms, x, "lasso", coef_init=start, positive=not problem.signed, **options)
            for x, start in pairs
        )
        return np.stack([found[1][:, 0] for found in each])

    return _in_parts(part, len(problem.x))


def _in_parts(part: Callable[[slice], Codes], count: int) -> Codes:
    """The same as `part` of all rows, in as many threads as torch has."""
    threads = torch.get_num_threads()
    if threads == 1:
        return part(slice(0, count))
    edges = np.linspace(0, count, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(part, map(slice, edges[:-1], edges[1:]))))


def _tolerances(first: float, last: float, ratio: float = 10**0.5) -> list[Setting]:
    count = round(np.log(first / last) / np.log(ratio)) + 1
    return [{"tol": float(tol)} for tol in np.geomspace(first, last, count)]


# spams.cd looks at its gap a fixed number of times in the iterations that it is allowed
ALLOWED = [
    {"tol": tol, "itermax": most} for tol in (1e-2, 1e-4, 1e-6) for most in (100, 200, 300, 500, 1000, 2000, 5000)
]
PEERS = {
    "scikit-learn cd": Peer(
        "sklearn",
        _sklearn_cd,
        # below 1e-7 single precision runs to its largest number of iterations
        {"float32": _tolerances(1e-4, 1e-7), "float64": _tolerances(1e-4, 1e-13)},
        starts=True,
    ),
    "scikit-learn lars": Peer("sklearn", _sklearn_lars, {"float64": [{}]}, data=100),
    "spams lars": Peer("spams", _spams_lars, {"float32": [{}], "float64": [{}]}),
    "spams cd": Peer("spams", _spams_cd, {"float32": ALLOWED[:7], "float64": ALLOWED}, starts=True, signed_only=True),
    "celer": Peer("celer", _celer, {"float64": _tolerances(1e-4, 1e-14, 10)}, data=100, starts=True),
}
