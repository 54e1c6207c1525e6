"""The report as files: one self-contained HTML page, and each figure as PNG and SVG beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from expflow.config.identity import dump_yaml, recipe_from_identity, value_words
from expflow.files import replace_whole
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.report import results, words
from expflow.report.contrasts import Answer, answers
from expflow.report.costs import costs
from expflow.report.images import with_images
from expflow.report.inside import kept_pictures
from expflow.report.ranking import best, leaderboard
from expflow.report.tables import stopped_table, table
from expflow.report.testing import looks

_TEMPLATE = "report.html.j2"
_BADGES = {"as_expected": "as expected", "opposite": "opposite of expected", "not_resolved": "not resolved"}


@dataclass(frozen=True)
class ReportFiles:
    """What :func:`write` wrote. ``figures`` are the PNG files, those that the experiment asks for first."""

    html: Path
    figures: list[Path]


def write(folder: Path, state: SweepState) -> ReportFiles:
    """Write ``report.html``, ``figures/`` and ``best.yaml`` into ``folder``; the same state gives the same bytes.

    Each file is renamed into place when it is complete, so that a reader never sees half of one. Raises OSError.
    """
    from expflow.report.figures import draw  # matplotlib takes most of a second; only the files need it

    asked, learning = draw(state)
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    pngs = []
    for drawing in (*asked, *learning):
        pngs.append(replace_whole(pictures / f"{drawing.name}.png", drawing.png))
        replace_whole(pictures / f"{drawing.name}.svg", drawing.svg)
    html = _render(folder, state, [_figure(each) for each in asked], [_figure(each) for each in learning])
    if (text := _best_recipe(state)) is not None:
        replace_whole(folder / "best.yaml", text.encode())
    return ReportFiles(replace_whole(folder / "report.html", html.encode()), pngs)


def _best_recipe(state: SweepState) -> str | None:
    """The selected config as an experiment file; None before there is one."""
    row = best(state)
    if row is None or row.estimate is None or state.header is None:
        return None
    value = words.metric_value(state.header.metric, row.estimate.mean)
    file = Path(state.header.file).name
    head = (
        f"# {row.label or state.header.name}: {state.header.metric} {value}, n = {row.estimate.n}, selected on it\n"
        f"# Copy it beside {file} to train it again: paths and modules are looked up from there.\n"
    )
    recipe = recipe_from_identity(row.recipe, row.trials[0].budget)
    data, base = recipe.get("data"), state.header.recipe.get("data")
    if isinstance(data, dict) and isinstance(base, dict) and data.get("name") == base.get("name"):
        recipe["data"] = {**base, **data}  # where the data lie is no part of what was compared
    return head + dump_yaml(recipe)


def _inside(folder: Path, state: SweepState) -> list[dict[str, str]]:
    """The pictures of `show` that were kept, those of the selected config's trials first."""
    winner = best(state)
    ours = {trial.trial for trial in winner.trials} if winner is not None else set()
    trials = sorted(state.plan_trials(), key=lambda trial: trial.trial not in ours)
    return [
        {
            "title": each.title,
            "caption": each.caption,
            "alt": each.alt,
            "source": f"data:image/png;base64,{base64.b64encode(each.path.read_bytes()).decode()}",
            "link": each.path.relative_to(folder).as_posix(),
        }
        for trial in trials
        for each in kept_pictures(folder, state, trial)
    ]


def _figure(drawing: Any) -> dict[str, str]:
    data = base64.b64encode(drawing.svg).decode()
    return {
        "title": drawing.title,
        "caption": drawing.caption,
        "alt": drawing.alt,
        "source": f"data:image/svg+xml;base64,{data}",  # an image, so that nothing inside can run or clash
    }


def _render(
    folder: Path, state: SweepState, figures: Sequence[Mapping[str, str]], learning: Sequence[Mapping[str, str]]
) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    header = results.header_of(state)
    board = leaderboard(state)
    found = with_images(answers(state), state, folder)
    page = environment.get_template(_TEMPLATE).render(
        name=header.name or "sweep",
        question=header.about.get("question", ""),
        expect=header.about.get("expect", ""),
        status=str(board.progress),
        complete=board.progress.complete,
        as_of=_as_of(state.plan_trials()),
        answers=[{"answer": answer, "badge": _BADGES[answer.verdict]} for answer in found],
        answer_notes=answer_notes(found),
        figures=figures,
        learning=learning,
        board=board,
        table=table(board),
        stopped=stopped_table(board),
        test=looks(state, folder),
        inside=_inside(folder, state),
        failures=results.failures(state),
        facts=facts(state),
        costs=costs(folder, state),
        recipe=list(_flat(header.recipe)),
        space=[(str(each["key"]), _dimension(each)) for each in header.space],
        text=header.text,
        command=_command(header),
    )
    return page + "\n"


def answer_notes(found: Sequence[Answer]) -> list[str]:
    """What a reader must know to read the answers rightly."""
    if not found:
        return []
    kinds = {answer.difference.kind for answer in found if answer.difference}
    notes = [f"p values are two-sided paired t tests over common seeds, Holm-corrected over {_contrasts(len(found))}."]
    if any(answer.expect == "not_worse" for answer in found):
        notes[0] += " Those of a declared margin are one-sided."
    if "t" in kinds:
        notes.append("Brackets: 95 % t interval of the paired difference, not corrected.")
    if "range" in kinds:
        notes.append("Brackets of two seeds: the range of the two differences.")
    if any(answer.seeds_needed for answer in found):
        notes.append(
            "Seeds needed: for power 0.8 at the observed difference and its spread, at the strictest Holm level; "
            "from few seeds a rough number."
        )
    return notes


def _contrasts(amount: int) -> str:
    return "the one declared contrast" if amount == 1 else f"the {amount} declared contrasts"


def facts(state: SweepState) -> list[tuple[str, str]]:
    """What was run, as names and values: sizes, seeds, versions, code, time."""
    header = results.header_of(state)
    trials = state.plan_trials()
    samples = words.samples_of(header)
    rows = [
        ("trials", str(results.progress(state))),
        ("configs", str(len(results.configs(state)))),
        ("seeds", ", ".join(map(str, header.seeds))),
        ("searcher", header.searcher),
        ("scheduler", header.scheduler),
        ("judged by", f"{header.metric} ({header.mode}), {header.select.replace('_', ' ')}"),
        ("data", str(header.data.get("source", ""))),
        ("samples", ", ".join(f"{split} {n:,}" for split, n in samples.items())),
        ("data key", str(header.data.get("key", ""))),
        ("manifest sha256", str(header.data.get("manifest", ""))),
        ("time in trials", _total(trials)),
        ("first start to last end", _span(trials)),
        ("versions", ", ".join(f"{name} {version}" for name, version in header.versions.items())),
        ("git", _git(header)),
        *((f"code {path}", digest) for path, digest in header.code.items()),
        ("tracking", header.tracking),
    ]
    return [(name, value) for name, value in rows if value]


def _total(trials: Iterable[TrialState]) -> str:
    seconds = sum(trial.seconds for trial in trials)
    return words.duration(seconds) if seconds else ""


def _span(trials: Sequence[TrialState]) -> str:
    """Wall time from the first start to the last end, pauses between two drivers included."""
    starts = [trial.started_at for trial in trials if trial.started_at]
    ends = [trial.ended_at for trial in trials if trial.ended_at]
    return words.duration(max(ends) - min(starts)) if starts and ends and max(ends) >= min(starts) else ""


def _git(header: Header) -> str:
    commit = header.git.get("commit", "")
    return f"{commit}{' with uncommitted changes' if header.git.get('dirty') == 'yes' else ''}" if commit else ""


def _as_of(trials: Sequence[TrialState]) -> str:
    """When the ledger last saw a trial start or end, in UTC; empty before the first."""
    latest = max((max(trial.started_at, trial.ended_at) for trial in trials), default=0.0)
    return datetime.fromtimestamp(latest, UTC).strftime("%Y-%m-%d %H:%M UTC") if latest else ""


def _dimension(each: Mapping[str, Any]) -> str:
    """A searched key's values or distribution in words."""
    if each.get("values"):
        text = ", ".join(value_words(value) for value in each["values"])
    else:
        text = f"{each.get('kind')} from {each.get('low')} to {each.get('high')}"
    when = each.get("when")
    if not when:
        return text
    conditions = (f"{key} is {' or '.join(value_words(value) for value in values)}" for key, values in when.items())
    return f"{text}; only when {words.and_join(conditions)}"


def _flat(tree: Any, key: str = "") -> Iterable[tuple[str, str]]:
    """A recipe as dotted keys and their values."""
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(tree)


def _command(header: Header) -> str:
    """The command that continues the sweep, or repeats it elsewhere."""
    if header.command:
        return header.command
    sets = "".join(f" --set {each}" for each in header.sets)
    return f"expflow sweep {header.file}{sets}" if header.file else header.about.get("command", "")
