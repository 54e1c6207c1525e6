"""A try of a campaign: train a candidate and its reference on the same new seeds, and judge the difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from expflow.errors import AddressUnknown, UserError
from expflow.ledger import Header, SweepState, TrialState, load_state
from expflow.ledger.trial_values import counted_value
from expflow.metrics import is_per_sample
from expflow.report import formatting, selected_row, trial_results
from expflow.report.campaign import CampaignRecord, CampaignTry, TryResult, all_tries, judge_try
from expflow.report.image_differences import ImageTest, drawn_test, image_test, values_per_image
from expflow.report.image_draws import same_draws
from expflow.report.kept_draws import read_draws
from expflow.report.prediction_files import read_predictions, same_images
from expflow.sweep.changed_code import changed_code, plan_for_code
from expflow.sweep.code_hashes import user_modules
from expflow.sweep.kept_code import start_of
from expflow.sweep.plan import Plan, PlannedTrial, make_plan
from expflow.sweep.result_location import ResultLocation, find_results, result_folders
from expflow.sweep.storage_place import results_command
from expflow.sweep.trial_expansion import planned_trials
from expflow.training.evaluation.predictions import Predictions
from expflow.version import __version__

RunPlan = Callable[[Plan], None]
"""Trains what a plan lacks."""

_ALONE = ("report=null", "sweep.space=null", "sweep.searcher=null", "sweep.scheduler=null")
"""What makes one config of a file that searches."""


@dataclass(frozen=True)
class TryCall:
    """What is asked for when something is tried.

    Attributes:
        file: The candidate's experiment file: one config, with two seeds or more.
        sets: The ``--set`` arguments.
        against: Address of the reference: ``NAME/best`` or a trial.
        campaign: The campaign's name.
        margin: By how much the candidate must be better to be of interest.
        storage: The folder of all results; None: what the file or the site file says.
        changed_code: What becomes of results of other code: ``new`` or ``fresh`` (:mod:`expflow.sweep.changed_code`);
            "" refuses them.
        check: Whether one batch of a network is tried before its first trial.
    """

    file: Path
    sets: Sequence[str]
    against: str | None
    campaign: str | None
    margin: float | None = None
    storage: str | None = None
    changed_code: str = ""
    check: bool = True

    def plan(self, file: Path, sets: Sequence[str], storage: Path) -> Plan:
        """The plan of the candidate or of the reference, which may go on with the results that it finds.

        Args:
            file: Its experiment file.
            sets: Its ``--set`` arguments.
            storage: The folder of all results.

        Raises:
            CodeChanged: There are results of other code, and nothing says what becomes of them.
        """
        made = plan_for_code(file, sets, storage=storage, answer=self.changed_code)
        if (problem := changed_code(made)) is not None:
            raise problem
        return replace(made, check=self.check)


@dataclass(frozen=True)
class KnownTrial:
    """A finished trial, and where it lies.

    Attributes:
        folder: The results folder.
        state: What its ledger adds up to.
        trial: The trial.
    """

    folder: Path
    state: SweepState
    trial: TrialState


@dataclass(frozen=True)
class PlannedTry:
    """A try before it is trained.

    Attributes:
        candidate: The plan of the candidate alone.
        reference: The plan of the reference alone.
        storage: The folder of all results.
        attempt: The try as its campaign has it.
    """

    candidate: Plan
    reference: Plan
    storage: Path
    attempt: CampaignTry


@dataclass(frozen=True)
class FinishedTry:
    """A try after it was judged.

    Attributes:
        attempt: The try, with its result.
        answered_from: Results that already had trials of it: those were not trained again.
        notes: What a reader must know.
    """

    attempt: CampaignTry
    answered_from: tuple[str, ...]
    notes: tuple[str, ...]


def plan_try(call: TryCall) -> PlannedTry:
    """Settle what a try trains, and write it into its campaign's record.

    The reference was chosen among others by its results, so it is trained on new seeds, or has its confirming ones; the
    candidate gets the same.

    Args:
        call: What was asked for.

    Raises:
        UserError: The two cannot be compared.
    """
    if not call.against or not call.campaign:
        raise UserError("--against and --campaign go together: what a try is compared with, and what it counts in")
    file, sets = call.file, call.sets
    asked = make_plan(file, sets, storage=call.storage)
    _check_candidate(asked, file)
    location = find_results(call.against, call.storage or asked.storage)
    config, values, header = _reference(location)
    earlier = (tried for tried in all_tries(asked.storage) if tried.reference_config == config)
    measured = {seed for tried in earlier for seed in tried.seeds}
    seeds = _new_seeds(location, config, measured, len(asked.sweep.seeds))
    wanted = f"sweep.seeds={json.dumps(seeds)}"
    candidate = call.plan(file, [*sets, wanted], asked.storage)
    settings = [*header.sets, *(f"{key}={json.dumps(value)}" for key, value in values.items())]
    reference = call.plan(Path(header.file), [*settings, *_ALONE, wanted], asked.storage)
    _check_pair(candidate, reference, config, location)
    attempt = replace(_attempt(candidate, file), reference=location.name, reference_config=config, margin=call.margin)
    declared = CampaignRecord(asked.storage, call.campaign).declare(attempt)
    return PlannedTry(candidate, reference, asked.storage, declared)


def _attempt(candidate: Plan, file: Path) -> CampaignTry:
    """The candidate as a try, without its reference."""
    about = candidate.loaded.experiment.about
    return CampaignTry(
        0,
        0.0,
        candidate.name,
        str(file),
        next(planned_trials(candidate)).config,
        "",
        "",
        tuple(candidate.sweep.seeds),
        candidate.metric,
        0.0,
        None,
        "; ".join(filter(None, (about.question, about.expect))),
        user_modules(candidate.loaded),
    )


def _check_candidate(plan: Plan, file: Path) -> None:
    if plan.sweep.space:
        raise UserError(
            f"{file} searches {', '.join(dimension.key for dimension in plan.sweep.space)}; a campaign's try is one "
            "config: fix them with --set, or leave out sweep.space"
        )
    if len(plan.sweep.seeds) < 2:
        raise UserError(f"{file} has one seed; a try needs two or more, five are advised: --set sweep.seeds=5")


def _reference(location: ResultLocation) -> tuple[str, Mapping[str, Any], Header]:
    """The config that an address names, its searched values, and the header with its file."""
    header = trial_results.header_of(location.state)
    if not Path(header.file).is_file():
        raise UserError(f"{location.name}: its experiment file {header.file} is gone, so it cannot be trained again")
    if location.which not in (None, "best"):
        trial = location.trial()
        return trial.config, trial.values, header
    row = selected_row(location.state)
    if row is None:
        raise AddressUnknown(f"{location.name} has no trial at full budget yet, hence no best one")
    return row.config, row.values, header


def _new_seeds(location: ResultLocation, config: str, measured: AbstractSet[int], count: int) -> list[int]:
    """The reference's confirming seeds where there are enough; else the first that it was not chosen by.

    ``measured`` are those that it was trained with as a reference before: nothing was chosen by them.
    """
    trials = [trial for trial in location.state.trials.values() if trial.config == config]
    confirmed = [trial.seed for trial in trials if trial.phase == "confirm" and trial.status == "done"]
    if len(confirmed) >= count:
        return sorted(confirmed)[:count]
    chosen_by = {seed for start in location.state.starts for seed in start.header.seeds}
    taken = ({trial.seed for trial in trials if trial.phase == "search"} | chosen_by) - measured
    return [seed for seed in range(len(taken) + count) if seed not in taken][:count]


def _check_pair(candidate: Plan, reference: Plan, config: str, location: ResultLocation) -> None:
    first, second = next(planned_trials(candidate)), next(planned_trials(reference))
    if second.config != config:
        raise UserError(
            f"{reference.loaded.experiment.file} does not give the config {config[:4]} of {location.name} any more: it "
            "was edited since. Put it back, or sweep it again and name the new results"
        )
    if first.config == second.config:
        raise UserError(f"the try is the same config as {location.name}: nothing is compared")
    if candidate.metric != reference.metric:
        raise UserError(
            f"the try is judged by {candidate.metric}, {location.name} by {reference.metric}; set sweep.metric alike"
        )
    keys = [trial.data.key if trial.data is not None else "" for trial in (first, second)]
    if keys[0] != keys[1]:
        raise UserError(f"the try and {location.name} are on different data, so their values cannot be compared")


def run_try(planned: PlannedTry, campaign: str, run: RunPlan) -> FinishedTry:
    """Train what a try lacks, and judge it. Trials that any results in the storage have are not trained again.

    Args:
        planned: The try.
        campaign: The campaign's name.
        run: Trains what a plan lacks.
    """
    record = CampaignRecord(planned.storage, campaign)
    plans = (planned.candidate, planned.reference)
    needed = [list(planned_trials(plan)) for plan in plans]
    if planned.attempt.result is not None:
        return FinishedTry(planned.attempt, (), ("it was asked before: this is what it gave",))
    known = _known(planned, needed)
    before = {known[trial.trial].folder.name for trials in needed for trial in trials if trial.trial in known}
    for plan, trials in zip(plans, needed, strict=True):
        if any(trial.trial not in known for trial in trials):
            run(plan)
    known |= _known(planned, needed)
    result, notes = _judged(planned, needed, known)
    record.conclude(planned.attempt.number, result)
    attempt = next(attempt for attempt in record.tries() if attempt.number == planned.attempt.number)
    return FinishedTry(attempt, tuple(sorted(before)), tuple(notes))


def _known(planned: PlannedTry, needed: Sequence[Sequence[PlannedTrial]]) -> dict[str, KnownTrial]:
    """The trials of a try that are finished somewhere."""
    known: dict[str, KnownTrial] = {}
    for plan, trials in zip((planned.candidate, planned.reference), needed, strict=True):
        known |= known_trials(planned.storage, [trial.trial for trial in trials], user_modules(plan.loaded))
    return known


def known_trials(storage: Path, names: Iterable[str], code: Mapping[str, str]) -> dict[str, KnownTrial]:
    """Finished trials of whatever results in a storage, by id, that were trained by the code of today.

    Args:
        storage: The folder of all results.
        names: The trials' ids, which hold config, seed and data.
        code: The user's modules that they depend on: path -> sha256. Other results may depend on more.
    """
    wanted, known = set(names), dict[str, KnownTrial]()
    for folder in result_folders(storage):
        state = load_state(folder)
        for name in wanted & state.trials.keys():
            trial = state.trials[name]
            if trial.status == "done" and _is_of(code, start_of(state, trial)):
                known.setdefault(name, KnownTrial(folder, state, trial))
    return known


def _is_of(code: Mapping[str, str], header: Header | None) -> bool:
    """Whether a driver ran the user's modules as they are now, and the expflow of today."""
    if header is None or header.versions.get("expflow", __version__) != __version__:
        return False
    return all(header.code.get(path) == sha256 for path, sha256 in code.items())


def _judged(
    planned: PlannedTry, needed: Sequence[Sequence[PlannedTrial]], known: Mapping[str, KnownTrial]
) -> tuple[TryResult, list[str]]:
    metric = planned.attempt.metric
    pairs: list[tuple[KnownTrial, KnownTrial]] = []
    notes = []
    turn = -1.0 if planned.candidate.mode == "min" else 1.0
    differences = []
    for one, other in zip(*needed, strict=True):
        sides = [known.get(trial.trial) for trial in (one, other)]
        values = [_value(side, metric) for side in sides]
        if sides[0] is None or sides[1] is None or values[0] is None or values[1] is None:
            notes.append(f"seed {one.seed} left out: it gave no {metric} on both sides")
            continue
        pairs.append((sides[0], sides[1]))
        differences.append(turn * (values[0] - values[1]))
    if not differences:
        command = results_command(planned.candidate.folder, "status")
        raise UserError(f"no seed gave {metric} on both sides: `{command}` says why")
    result = judge_try(
        differences,
        planned.attempt.number,
        margin=planned.attempt.margin,
        over=_image_test(pairs, metric, turn),
        on_images=formatting.is_measured_on_images(metric),
        overlap=trial_results.header_of(pairs[0][0].state).overlap,
    )
    return result, notes


def _value(known: KnownTrial | None, metric: str) -> float | None:
    return None if known is None else counted_value(known.trial, metric, trial_results.header_of(known.state))


def _image_test(pairs: Sequence[tuple[KnownTrial, KnownTrial]], metric: str, turn: float) -> ImageTest | None:
    """The test for other images; None unless all trials keep what the metric is of, on the same images."""
    if len(pairs) < 2:
        return None
    if not is_per_sample(metric):
        return _drawn_test(pairs, metric, turn)
    rows, first = [], None
    for pair in pairs:
        kept = [_kept(known, metric) for known in pair]
        if any(predictions is None for predictions in kept):
            return None
        measured = [predictions for predictions in kept if predictions is not None]
        first = first or measured[0]
        values = [values_per_image(predictions, metric) for predictions in measured]
        if values[0] is None or values[1] is None or not all(same_images(first, other) for other in measured):
            return None
        rows.append(turn * (values[0] - values[1]))
    return image_test(np.stack(rows), 0.0) if rows[0].size > 1 else None


def _drawn_test(pairs: Sequence[tuple[KnownTrial, KnownTrial]], metric: str, turn: float) -> ImageTest | None:
    """The same for a metric that is no mean over images."""
    sides = [
        [read_draws(known.folder, known.state, known.trial, metric, for_error=True) for known in side]
        for side in zip(*pairs, strict=True)
    ]
    of, against = ([known for known in side if known is not None] for side in sides)
    if len(of) < len(pairs) or len(against) < len(pairs) or not same_draws([*of, *against]):
        return None
    both = list(zip(of, against, strict=True))
    whole = np.asarray([one.whole - other.whole for one, other in both])
    drawn = np.stack([one.drawn - other.drawn for one, other in both])
    return drawn_test(turn * whole, turn * drawn, len(of[0].ids), 0.0)


def _kept(known: KnownTrial, metric: str) -> Predictions | None:
    return read_predictions(known.folder, known.state, known.trial.trial, metric.partition("/")[0])
