"""Finished trials, ready to be evaluated: recipe, data and checkpoint of what a ledger knows only by id."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.config import load_site
from expflow.config.components import recipe_from
from expflow.config.identity import config_id, recipe_from_identity
from expflow.config.merge import merge, nest
from expflow.config.schema import Recipe, Resources
from expflow.config.tree import Mark, from_plain, plain
from expflow.data.build import Prepared, prepare
from expflow.data.specs import Source
from expflow.errors import CheckpointDamaged, ExperimentInvalid, LedgerMismatch, UserError
from expflow.ledger import TrialState
from expflow.sweep.results import Found
from expflow.training.checkpoints import found as checkpoints_in
from expflow.training.checkpoints import verify
from expflow.training.checkpoints.choice import FOLDER
from expflow.training.contract import LIGHTNING, World, runner_of
from expflow.training.local import world_here

if TYPE_CHECKING:
    from expflow.training.protocol.evaluating import Bench, Held


@dataclass(frozen=True)
class Finished:
    """A trial at its full budget, and what evaluating it takes."""

    trial: TrialState
    recipe: Recipe
    data: Prepared | None
    folder: Path
    """The trial's own folder."""
    checkpoint: Path
    """The verified checkpoint of its last step."""

    @property
    def has_val(self) -> bool:
        """Whether its data keep a val split that it was not trained on."""
        if self.recipe.trainer.fit_on != "train":
            return False
        return self.data is None or bool(self.data.manifest.splits.get("val"))

    @property
    def split_key(self) -> str:
        """Tells the test split of these data from that of any others."""
        return self.data.manifest.content if self.data is not None else ""

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        """A bench with this trial's network and data, in this process."""
        from expflow.training.protocol.evaluating import bench  # torch and Lightning, which take seconds

        root = self.data.root if self.data is not None else None
        with bench(self.recipe, self.trial.seed, root, world_for_evaluation()) as opened:
            yield opened

    def held(self, on: Bench) -> Held:
        """Its weights. Raises LedgerMismatch where they are not those that the ledger recorded."""
        held = on.held(self.checkpoint)
        if self.trial.weights and held.digest != self.trial.weights:
            raise LedgerMismatch(
                f"{self.checkpoint} does not hold the weights that trial {self.trial.trial} ended with (sha256 "
                f"{held.digest[:12]}, recorded {self.trial.weights[:12]}); train it again in a fresh folder (--fresh)"
            )
        return held


def world_for_evaluation() -> World:
    """One rank with what the site gives it: evaluation takes a fraction of training."""
    resources = load_site().resources or Resources()
    return world_here(resources.model_copy(update={"ranks": 1}))


def finished(found: Found, trial: TrialState) -> Finished:
    """``trial`` of the results ``found``, ready to be evaluated.

    Raises UserError where it has not finished or was not trained by Lightning, CheckpointDamaged where no whole
    checkpoint of its last step is left, LedgerMismatch where recipe or data are not what they were.
    """
    name = f"{found.name}/{trial.trial}"
    if trial.status != "done":
        raise UserError(f"{name} is {trial.status}: only trials at their full budget are evaluated")
    folder = str(found.experiment_folder)
    if folder not in sys.path:  # the user's own modules
        sys.path.insert(0, folder)
    recipe = recipe_of(found, trial)
    if runner_of(recipe) != LIGHTNING:
        raise UserError(f"{name} was not trained by Lightning ({runner_of(recipe)}): it keeps no weights to evaluate")
    own = found.trial_folder(trial)
    return Finished(trial, recipe, _data_of(found, recipe), own, _checkpoint(found, trial, own))


def recipe_of(found: Found, trial: TrialState) -> Recipe:
    """The recipe of ``trial``, its execution fields as the newest driver had them.

    Raises LedgerMismatch where this version of expflow, or the user's code, makes another config of it.
    """
    folder = found.experiment_folder
    if found.state.header is not None:
        mark = Mark("ledger")
        over = nest({key: from_plain(value, mark) for key, value in trial.latest_values.items()}, mark)
        budget = nest({key: from_plain(value, mark) for key, value in trial.budget.items()}, mark)
        base = merge(merge(from_plain(found.state.header.recipe, mark), over), budget)
        try:
            recipe = recipe_from(plain(base), folder)
        except ExperimentInvalid:  # the newest file may be about something else
            pass
        else:
            if trial.forks or config_id(recipe) == trial.config:
                return recipe
    recipe = recipe_from(recipe_from_identity(trial.recipe, trial.budget), folder)
    if not trial.forks and config_id(recipe) != trial.config:
        raise LedgerMismatch(
            f"{found.name}/{trial.trial} was made by a recipe that now is config {config_id(recipe)}, and was "
            f"{trial.config}: expflow or your own modules have changed since"
        )
    return recipe


def _data_of(found: Found, recipe: Recipe) -> Prepared | None:
    """The prepared data; None where the user's own code brings them."""
    spec = recipe.data
    if not isinstance(spec, Source):
        return None
    site = load_site()
    data = prepare(spec, cache=site.cache, folder=found.experiment_folder, site_path=site.data.get(spec.name))
    then = found.state.header.data if found.state.header is not None else {}
    if then.get("key") == data.key and then.get("manifest", data.manifest.content) != data.manifest.content:
        raise LedgerMismatch(
            f"{found.name} was trained on other data: the manifest of {then.get('source')} was "
            f"{then['manifest'][:12]} and is {data.manifest.content[:12]}. Put the old data back"
        )
    return data


def _checkpoint(found: Found, trial: TrialState, folder: Path) -> Path:
    """The checkpoint of the trial's last step. Its step is the report's: both count optimizer steps."""
    last = trial.reports[-1].step if trial.reports else 0
    reasons = []
    for path in checkpoints_in(folder / FOLDER):
        try:
            manifest = verify(path)
        except CheckpointDamaged as error:
            reasons.append(str(error))
            continue
        if manifest.step == last:
            return path
        reasons.append(f"{path.name} is of step {manifest.step}")
    raise CheckpointDamaged(
        f"{found.name}/{trial.trial} has no whole checkpoint of its last step, {last}: "
        f"{'; '.join(reasons) or 'none was kept (trainer.checkpoint.at_end: false, or it was removed)'}. "
        "Train it again in a fresh folder (--fresh)"
    )
