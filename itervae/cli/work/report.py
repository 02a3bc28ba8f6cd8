"""The work of `itervae report`."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itervae.cli.report import Report
from itervae.cli.runs import Target, described, match_data, named_engine
from itervae.cli.show import begin, progress
from itervae.cli.suites import SUITES, measure
from itervae.cli.work.gap import default_engines, gaps_drawn
from itervae.data import load_stills
from itervae.evaluation import GapReport, amortization_gap, encode
from itervae.files import write_bytes
from itervae.plotting.formats import drawn
from itervae.training.files import METRICS
from itervae.training.metrics import read_metrics
from itervae.training.pictures import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
img { max-width: 100% }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
p.note { color: #666 }
"""
PICTURES = {
    "curves": "How the objective and its parts went over the run, training data and held-out data.",
    "dictionary": "The columns of the dictionary, the most used first.",
    "reconstructions": "Held-out data, what the mean of the code decodes to, and the difference.",
    "samples": "What codes drawn from the prior decode to.",
}
"""The pictures of a run by name, and what each shows, in the order of the page."""
ESTIMATED = 30
"""Data at most of which a gap is measured whose optimum is an estimate, which takes long."""


def work(options: Report) -> str:
    (target,) = options.targets.values()
    begin("reading the data")
    source = load_stills(options.data, options.seed, fitted=target.prepare.fitted)
    match_data(source, [target])
    x = source.validation[: options.num].to(options.device)
    model, engine = target.model.to(options.device), target.engine.to(options.device)
    begin("drawing pictures")
    drawings = dict(pictures(model, engine, x, read_metrics(options.folder / METRICS), options.seed))
    steps = "an engine without steps" if not engine.steps else f"{engine.steps} steps"
    parts = [
        f"<h1>{escape(str(options.target))}</h1>",
        _facts(
            {
                "model": f"{model.prior.name}, {model.latents} latents, {type(model.decoder).__name__}",
                "engine": f"{target.inference}, {steps}",
                "data": f"{described(source, 'validation')}, {len(x)} held out are measured here",
            }
        ),
    ]
    for name, text in PICTURES.items():
        if name in drawings:
            parts.append(_section(name.capitalize(), text, drawings[name]))
    parts += _gap(options, target, x)
    parts += _codes(options, target, x)
    assert target.run is not None
    settings = {name.replace("_", "-"): str(value) for name, value in target.run.settings.flat().items()}
    parts += ["<h2>Settings</h2>", _facts({name: value for name, value in settings.items() if value != "None"})]
    title = f"<title>{escape(options.target.name)}</title>"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{title}<style>{STYLE}</style></head>'
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _gap(options: Report, target: Target, x: Any) -> Iterator[str]:
    """What the engines leave on the table; nothing where no optimum is known."""
    model = target.model
    if "variational posterior" not in model.capabilities and "certifiable optimum" not in model.capabilities:
        return
    x = x if model.exact else x[:ESTIMATED]
    engines = {name: named_engine(name, target, options.own()) for name in default_engines(target)}
    with progress() as bar:
        tasks = {name: bar.add_task(name, total=len(x)) for name in ("optimal", *engines)}
        report = amortization_gap(
            model,
            {name: (engine.to(options.device), steps) for name, (engine, steps) in engines.items()},
            x,
            seed=options.seed,
            advance=lambda name, count: bar.advance(tasks[name], count),
        )
    unit = model.prior.unit or "squared units of the data"
    yield _section("Gap", _of_the_optimum(report, unit), gaps_drawn(report, target))
    rows = [
        (
            name,
            gap.steps,
            f"{gap.free_energy_mean:.3f}",
            *map(_short, (gap.gap_mean, gap.gap_se, gap.gap_p99, gap.gap_max)),
        )
        for name, gap in report.engines.items()
    ]
    yield _table(("engine", "steps", model.prior.terms[0], "gap", "± s.e.", "99th percentile", "largest"), rows)


def _codes(options: Report, target: Target, x: Any) -> Iterator[str]:
    """What `itervae evaluate` measures without labels."""
    codes = encode(target.model, target.engine, x, seed=options.seed)
    yield "<h2>Codes</h2>"
    found = measure(codes, x, SUITES)
    yield _facts(
        {heading: text for name, values in found.items() for heading, text in SUITES[name].cells(values).items()}
    )


def files(options: Report, found: str) -> Mapping[str, Callable[[Path], object]]:
    return {"output": lambda path: write_bytes(path, found.encode())}


def tell(options: Report, found: str) -> None:
    """Nothing more: the page says it."""


def _of_the_optimum(report: GapReport, unit: str) -> str:
    """How the best posterior is known."""
    best = report.optimal
    above = f"How far the answers of each engine are above the best, over {report.num} data, in {unit}."
    if best.method == "certified":
        return f"{above} The best is proved, to {best.certificate_max:.1g} at most."
    return f"{above} The best is an estimate, the best of several starts."


def _section(title: str, text: str, figure: "Figure") -> str:
    image = base64.b64encode(drawn(figure)).decode()
    picture = f'<img alt="{escape(title)}" src="data:image/png;base64,{image}">'
    return f'<h2>{escape(title)}</h2><p class="note">{escape(text)}</p>{picture}'


def _facts(values: Mapping[str, str]) -> str:
    return _table((), values.items())


def _table(headings: Sequence[str], rows: Any) -> str:
    head = f"<tr>{''.join(f'<th>{escape(each)}</th>' for each in headings)}</tr>" if headings else ""
    cells = ("".join(f"<td>{escape(str(each))}</td>" for each in row) for row in rows)
    return f"<table>{head}{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _short(value: float) -> str:
    return f"{value:.2g}"
