"""What an experiment comes to on this machine: its trials, their ids, its data, and the folder of its results."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expflow.config import Loaded, Site, load, load_site
from expflow.config.identity import config_id, dump, folder_name, identity_tree, recorded_tree, trial_id
from expflow.config.schema import Recipe, Sweep, Trainer
from expflow.config.space import metric_mode
from expflow.config.spec import Foreign, role_of
from expflow.config.tree import problem
from expflow.data.build import Prepared, as_used, data_key, prepare, supposed
from expflow.data.specs import Source
from expflow.errors import DataMissing, ExperimentInvalid, Problem, UserError
from expflow.ledger.header import Header
from expflow.registry import construct, load_dotted
from expflow.sweep.course import MOST_REPEATS, Course, Objective
from expflow.sweep.generations import newest, unused
from expflow.sweep.pretrained import Sources, look_up
from expflow.sweep.provenance import CONTINUE_VARIABLE, git_state, versions
from expflow.sweep.schedulers import Scheduler, Surroundings
from expflow.sweep.searchers import SearchAlgorithm, Values
from expflow.sweep.searchers.specs import Grid
from expflow.sweep.warm import warm_start
from expflow.training.transfer.source import Pretrained

SHOWN = 10
"""Configs that a searcher which learns is asked for before anything ran: what a plan can show of it."""


@dataclass(frozen=True)
class PlannedTrial:
    """One config with one seed, as the searcher proposed it. Small: its recipe is made anew when it is asked for."""

    trial: str
    config: str
    seed: int
    values: dict[str, Any]
    budget: dict[str, Any]
    data: Prepared | None
    configure: Callable[[Mapping[str, Any]], Recipe] = field(repr=False, compare=False)
    weights: Pretrained | None = None
    """What it begins with; None for fresh weights."""

    @property
    def recipe(self) -> Recipe:
        """The recipe with the searched values in it."""
        return self.configure(self.values)

    @property
    def recorded(self) -> dict[str, Any]:
        """What the ledger holds of the recipe."""
        return recorded_tree(self.recipe)

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
    sources: Sources
    """The weights that recipes begin with."""
    command: str = ""
    """What to type to continue, from anywhere."""
    supposing: bool = False
    """Whether data that are missing are taken for what is published of them: such a plan can be shown, not run."""
    _prepared: dict[str, Prepared] = field(default_factory=dict)
    _expected: int | None = None

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

    @property
    def objective(self) -> Objective:
        """How trials are judged, and how schedulers count their time."""
        unit = getattr(self.sweep.scheduler, "unit", "epoch")
        epochs = self.loaded.experiment.trainer.epochs
        return Objective(self.metric, self.mode, self.sweep.select, unit, epochs)

    @property
    def digest(self) -> str:
        """Hash of what is searched: another plan starts another set of trials."""
        searcher = self.sweep.searcher.model_dump(mode="json")
        confirm = [self.sweep.confirm.model_dump(mode="json")] if self.sweep.confirm else []
        recipe = dump(self.loaded.experiment.recipe)
        return _digest([recipe, self._space, self.sweep.seeds, searcher, *confirm])

    @property
    def devices(self) -> float:
        """Devices that one trial occupies: its ranks, times their GPUs where the file gives them some."""
        resources = self.loaded.experiment.resources
        gpus = resources.gpus_per_rank
        return resources.ranks * (gpus if isinstance(gpus, float) and gpus > 0 else 1.0)

    @property
    def slots_here(self) -> int:
        """Trials that this machine's cores can run at once, at least one."""
        resources = self.loaded.experiment.resources
        fit = max(1, (os.cpu_count() or 1) // (resources.ranks * resources.cpus_per_rank))
        return min(fit, resources.max_concurrent or fit)

    @property
    def limit(self) -> int | None:
        """Number of configs that are wanted of the searcher; None for all that it has."""
        return getattr(self.sweep.searcher, "trials", None)

    @property
    def learns(self) -> bool:
        """Whether the searcher's proposals depend on results; a searcher of the user's may."""
        searcher = self.sweep.searcher
        return isinstance(searcher, Foreign) or bool(getattr(searcher, "learns", False))

    @property
    def search_key(self) -> str:
        """Hash of all that the searcher's proposals depend on, besides results. Its number of configs does not count:
        a search that is extended goes on."""
        searcher = self.sweep.searcher.model_dump(mode="json", exclude={"trials"}, exclude_defaults=True)
        base = identity_tree(self.loaded.experiment.recipe)
        return _digest(
            [base, self._space, searcher, self.sweep.searcher.name, self.metric, self.mode, self.sweep.select]
        )

    @property
    def _space(self) -> tuple[dict[str, Any], ...]:
        return tuple(each.model_dump(mode="json") for each in self.sweep.space)

    def searcher(self) -> SearchAlgorithm:
        """A fresh searcher: it proposes from the beginning, as replay needs."""
        spec = self.sweep.searcher
        built: SearchAlgorithm
        if isinstance(spec, Foreign):
            built = construct(spec.name, spec.arguments, {"space": self.sweep.space, "mode": self.mode})
        else:
            built = load_dotted(spec.build)(spec, self.sweep.space, self.mode)
        return built

    def scheduler(self) -> Scheduler | None:
        """A fresh scheduler; None where every trial runs to its end."""
        spec = self.sweep.scheduler
        around = Surroundings(self.loaded.experiment.trainer.epochs, self.sweep.space, self._accepts)
        built: Scheduler
        if isinstance(spec, Foreign):
            built = construct(spec.name, spec.arguments, {"surroundings": around})
        elif spec is None or not spec.build:
            return None
        else:
            built = load_dotted(spec.build)(spec, around)
        return built

    def _accepts(self, values: Values) -> bool:
        try:
            self.loaded.configure(values)
        except ExperimentInvalid:
            return False
        return True

    def course(self) -> Course:
        """A fresh searcher and scheduler, to be fed with the ledger."""
        return Course(
            self.searcher(),
            self.scheduler(),
            self.objective,
            search=self.search_key,
            identify=lambda values: config_id(self.loaded.configure(values)),
            limit=self.limit,
        )

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
            if self.supposing and (stand_in := supposed(spec)) is not None:
                return stand_in
            if not error.key:
                raise
            raise ExperimentInvalid([self.problem(error.key, str(error))]) from error

    def problem(self, key: str, message: str, values: Values | None = None) -> Problem:
        """Something that is wrong with ``key`` of the base recipe, or of the config of ``values``, at the place where
        the file says it."""
        return problem(self.loaded.place(key, values), key, message)

    def configs(self) -> Iterator[Values]:
        """Searched values of each config that the searcher proposes by itself, each config once.

        Of a searcher that learns only the first ones are known beforehand. Proposals that the schema refuses are left
        out, as they are in the sweep; a grid's and a list's have all been checked before.
        """
        searcher, known = self.searcher(), set[str]()
        most = self.limit if not self.learns else min(self.limit or SHOWN, SHOWN)
        repeats = 0
        while (most is None or len(known) < most) and repeats < MOST_REPEATS:
            if (values := searcher.suggest()) is None:
                return
            config = config_id(self.loaded.configure(values)) if self._accepts(values) else ""
            repeats += 1
            if config and config not in known:
                repeats = 0
                known.add(config)
                yield values

    def trials(self) -> Iterator[PlannedTrial]:
        """The trials of :meth:`configs` in proposal order: each config with each of its seeds."""
        for values in self.configs():
            yield from self.expand(values)

    def expand(self, values: Values, seeds: Sequence[int] | None = None) -> list[PlannedTrial]:
        """A config with each of ``seeds``, by default the sweep's. Raises ExperimentInvalid."""
        recipe = self.loaded.configure(values)
        data = self.data(recipe)
        config = config_id(recipe)
        key = data.key if data is not None else _own_data_key(recipe)
        spent = budget_of(recipe)
        weights = self.sources[recipe.init.source] if recipe.init is not None and recipe.init.pretrained else None
        begun = weights.id if weights is not None else ""
        return [
            PlannedTrial(
                trial_id(config, seed, key, begun), config, seed, values, spent, data, self.loaded.configure, weights
            )
            for seed in (self.sweep.seeds if seeds is None else seeds)
        ]

    def trial(self, values: Values, seed: int) -> PlannedTrial:
        """A config with one seed."""
        return self.expand(values, (seed,))[0]

    @property
    def expected_trials(self) -> int:
        """Number of trials that the sweep comes to, where nothing is stopped or repeated. Counted once."""
        if self._expected is None:
            configs = self.limit if self.learns and self.limit else sum(1 for _ in self.configs())
            confirm = self.sweep.confirm
            more = min(confirm.top, configs) * len(confirm.seeds) if confirm else 0
            count = configs * len(self.sweep.seeds) + more
            most = self.sweep.budget.trials
            self._expected = count if most is None else min(count, most)
        return self._expected

    def header(self, *, tracking: str, code: dict[str, str], before: Header | None = None) -> Header:
        """The ledger header of a driver that is about to run this plan; ``before`` is that of the last one."""
        experiment = self.loaded.experiment
        data = self.data(experiment.recipe)
        recipe = dump(experiment.recipe)
        confirm = self.sweep.confirm.model_dump(mode="json") if self.sweep.confirm else {}
        search = self.search_key
        return Header(
            name=self.name,
            text=self.loaded.text,
            file=str(experiment.file),
            sets=tuple(self.loaded.sets),
            command=self.command,
            plan=self.digest,
            search=search,
            about=experiment.about.model_dump(),
            recipe=recipe,
            space=self._space,
            seeds=self.sweep.seeds,
            confirm=confirm,
            warm_start=before.warm_start
            if before and before.search == search
            else warm_start(self.sweep, self.storage),
            searcher=self.sweep.searcher.name,
            scheduler=self.sweep.scheduler.name if self.sweep.scheduler else "none",
            metric=self.metric,
            mode=self.mode,
            select=self.sweep.select,
            report=experiment.report.model_dump(mode="json"),
            expected_trials=self.expected_trials,
            devices=self.devices,
            data=_data_facts(data, experiment.recipe),
            weights=self.sources.facts,
            code=code,
            versions=versions(),
            git=git_state(experiment.file.parent),
            tracking=tracking,
        )


def budget_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe's budget fields by dotted key; what is left open is left out."""
    fields = [key for key in Trainer.model_fields if role_of(Trainer, key) == "budget"]
    return {f"trainer.{key}": value for key in fields if (value := getattr(recipe.trainer, key)) is not None}


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
    elsewhere: bool = False,
) -> Plan:
    """Read ``file`` and settle where its results go.

    ``alone`` ignores the file's sweep: one trial of the base recipe with seed 0. ``storage`` wins over the file, the
    file over the site. ``fresh`` begins new results beside those that are there; without it the newest are continued.
    ``elsewhere``: a machine that makes the plan anew will run it, so weights to begin with are not looked up here.
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
    sources = Sources({})
    if not elsewhere:
        sources = look_up(loaded, sweep.space, site=site, storage=folder, folder=folder / name)
    return Plan(loaded, site, name, folder, sweep, sources, command)


def _command(verb: str, loaded: Loaded, storage: Path | str | None) -> str:
    words = ["expflow", verb, str(loaded.experiment.file)]
    for each in loaded.sets:
        words += ["--set", each]
    if storage:
        words += ["--storage", str(Path(storage).absolute())]
    return shlex.join(words)
