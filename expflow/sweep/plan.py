"""What an experiment comes to on this machine: its trials, their ids, its data, and the folder of its results."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expflow.config import Loaded, Site, load, load_site
from expflow.config.identity import config_id, dump, folder_name, recorded_tree, trial_id
from expflow.config.schema import Recipe, Sweep
from expflow.config.space import metric_mode
from expflow.config.tree import problem
from expflow.data.build import Prepared, as_used, data_key, prepare
from expflow.data.specs import Source
from expflow.errors import DataMissing, ExperimentInvalid, Problem, UserError
from expflow.ledger.header import Header
from expflow.registry import load_dotted
from expflow.sweep.generations import newest, unused
from expflow.sweep.provenance import CONTINUE_VARIABLE, git_state, versions
from expflow.sweep.searchers import SearchAlgorithm
from expflow.sweep.specs import Grid


@dataclass(frozen=True)
class PlannedTrial:
    """One config with one seed, as the searcher proposed it."""

    trial: str
    config: str
    seed: int
    values: dict[str, Any]
    recipe: Recipe
    recorded: dict[str, Any]
    budget: dict[str, Any]
    data: Prepared | None

    @property
    def folder(self) -> str:
        """Name of the trial's own folder."""
        return folder_name(self.values, self.seed, self.trial)


@dataclass
class Plan:
    """An experiment on this machine. Building one starts nothing; data are prepared when a trial first needs them."""

    loaded: Loaded
    site: Site
    name: str
    storage: Path
    sweep: Sweep
    command: str = ""
    """What to type to continue, from anywhere."""
    _prepared: dict[str, Prepared] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where this experiment's results lie."""
        return self.storage / self.name

    @property
    def metric(self) -> str:
        """What the sweep is judged by."""
        return self.sweep.metric

    @property
    def mode(self) -> str:
        """``max`` or ``min``."""
        return metric_mode(self.sweep.metric, self.sweep.mode)

    def searcher(self) -> SearchAlgorithm:
        """A fresh searcher: it proposes from the beginning, as replay needs."""
        built: SearchAlgorithm = load_dotted(self.sweep.searcher.build)(self.sweep.searcher, self.sweep.space)
        return built

    def data(self, recipe: Recipe) -> Prepared | None:
        """The recipe's prepared data; None where its task brings its own or needs none.

        Raises what :func:`~expflow.data.build.prepare` raises, and ExperimentInvalid where the file names a folder
        that is not there.
        """
        spec = recipe.data
        if not isinstance(spec, Source):
            return None
        key = data_key(spec)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(spec)
        return as_used(self._prepared[key], spec)

    def _prepare(self, spec: Source) -> Prepared:
        folder = self.loaded.experiment.file.parent
        try:
            return prepare(spec, cache=self.site.cache, folder=folder, site_path=self.site.data.get(spec.name))
        except DataMissing as error:
            if not error.key:
                raise
            raise ExperimentInvalid([self.problem(error.key, str(error))]) from error

    def problem(self, key: str, message: str) -> Problem:
        """Something that is wrong with ``key`` of the base recipe, at the place where the file says it."""
        return problem(self.loaded.place(key), key, message)

    def configs(self, searcher: SearchAlgorithm | None = None) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Searched values and recipe of each config that the searcher proposes by itself."""
        searcher = searcher or self.searcher()
        while (values := searcher.suggest()) is not None:
            yield values, self.loaded.configure(values)

    def trials(self, searcher: SearchAlgorithm | None = None) -> Iterator[PlannedTrial]:
        """All trials in proposal order: each config with each of its seeds."""
        for values, recipe in self.configs(searcher):
            data = self.data(recipe)
            config = config_id(recipe)
            key = data.key if data is not None else _own_data_key(recipe)
            for seed in self.sweep.seeds:
                yield PlannedTrial(
                    trial=trial_id(config, seed, key),
                    config=config,
                    seed=seed,
                    values=values,
                    recipe=recipe,
                    recorded=recorded_tree(recipe),
                    budget={"trainer.epochs": recipe.trainer.epochs},
                    data=data,
                )

    def header(self, *, tracking: str, code: dict[str, str], expected_trials: int) -> Header:
        """The ledger header of a driver that is about to run this plan."""
        experiment = self.loaded.experiment
        data = self.data(experiment.recipe)
        space = tuple(each.model_dump(mode="json") for each in self.sweep.space)
        recipe = dump(experiment.recipe)
        searcher = self.sweep.searcher.model_dump(mode="json")
        return Header(
            name=self.name,
            text=self.loaded.text,
            file=str(experiment.file),
            sets=tuple(self.loaded.sets),
            command=self.command,
            plan=_digest([recipe, space, self.sweep.seeds, searcher]),
            about=experiment.about.model_dump(),
            recipe=recipe,
            space=space,
            seeds=self.sweep.seeds,
            searcher=self.sweep.searcher.name,
            scheduler=self.sweep.scheduler.name if self.sweep.scheduler else "none",
            metric=self.metric,
            mode=self.mode,
            select=self.sweep.select,
            report=experiment.report.model_dump(mode="json"),
            expected_trials=expected_trials,
            data=_data_facts(data, experiment.recipe),
            code=code,
            versions=versions(),
            git=git_state(experiment.file.parent),
            tracking=tracking,
        )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _own_data_key(recipe: Recipe) -> str:
    """The data key of data that the user's own code brings: what the file says of them."""
    return _digest(dump(recipe).get("data")) if recipe.data is not None else "none"


def _data_facts(data: Prepared | None, recipe: Recipe) -> dict[str, Any]:
    if data is None:
        return {"source": getattr(recipe.data, "name", ""), "key": _own_data_key(recipe)}
    return {
        "source": getattr(recipe.data, "name", ""),
        "key": data.key,
        "manifest": data.manifest.content,
        "spec": data.spec.to_json(),
        "samples": dict(data.spec.samples),
        "root": str(data.root),
    }


def make_plan(
    file: Path,
    sets: Sequence[str] = (),
    *,
    storage: Path | str | None = None,
    alone: bool = False,
    fresh: bool = False,
) -> Plan:
    """Read ``file`` and settle where its results go.

    ``alone`` ignores the file's sweep: one trial of the base recipe with seed 0. ``storage`` wins over the file, the
    file over the site. ``fresh`` begins new results beside those that are there; without it the newest are continued.
    Raises :class:`~expflow.errors.ExperimentInvalid` with everything that is wrong.
    """
    site = load_site()
    loaded = load(file, sets, site)
    experiment = loaded.experiment
    sweep = experiment.sweep
    if sweep is None or alone:
        metric = sweep.metric if sweep else "val/top1"
        mode = sweep.mode if sweep else None
        sweep = Sweep(searcher=Grid(), metric=metric, mode=mode)
    else:
        loaded.check()
    root = str(storage or experiment.storage or site.storage)
    if "://" in root:
        raise UserError(f"storage {root!r}: only folders can hold results; name a folder that every node can reach")
    suffix = "+train" if alone and experiment.sweep is not None else ""
    folder, name = Path(root).absolute(), loaded.name + suffix
    name = unused(folder, name) if fresh else newest(folder, name, experiment.file)
    command = os.environ.get(CONTINUE_VARIABLE) or _command("train" if alone else "sweep", loaded, storage)
    return Plan(loaded, site, name, folder, sweep, command)


def _command(verb: str, loaded: Loaded, storage: Path | str | None) -> str:
    words = ["expflow", verb, str(loaded.experiment.file)]
    for each in loaded.sets:
        words += ["--set", each]
    if storage:
        words += ["--storage", str(Path(storage).absolute())]
    return shlex.join(words)
