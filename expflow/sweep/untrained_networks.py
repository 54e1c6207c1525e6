"""Configs that are passed over because of what was measured of their network: latency, and zero-cost proxies.

A measurement is an event: it is recorded before anything follows from it, and a replayed search goes by the record.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from expflow.config.schema import Recipe
from expflow.events import NetworkMeasured
from expflow.sweep.data_preparation import prepared_data
from expflow.sweep.plan import Plan
from expflow.training.template.process import TemplateLost

if TYPE_CHECKING:
    from expflow.training.untrained_measurements import UntrainedMeasurement

LATENCY = "latency_ms"


class UntrainedNetworks:
    """What was measured of the networks of one search, in the order of the ledger.

    Args:
        plan: The plan that is searched.
        preview: Whether this is for showing a plan: nothing is filtered by proxies then.
    """

    def __init__(self, plan: Plan, *, preview: bool = False) -> None:
        self._plan, self._proxies = plan, plan.sweep.proxies
        latency = (LATENCY,) if plan.sweep.limits.latency_ms is not None else ()
        self._wanted = (*latency, *(() if preview else self._proxies.names))
        self._preview = preview
        self._known: dict[str, NetworkMeasured] = {}
        self._places: dict[str, int] = {}
        self._scores: list[float | None] = []
        """The filter's score of each network, in the order of measurement."""
        self._new: list[NetworkMeasured] = []

    def take_in(self, event: NetworkMeasured) -> None:
        """Know a measurement that is recorded.

        Args:
            event: The measurement.
        """
        if event.config not in self._known:
            self._places[event.config] = len(self._scores)
            self._scores.append(event.metrics.get(self._proxies.filter or ""))
            self._known[event.config] = event

    def unrecorded(self) -> list[NetworkMeasured]:
        """The measurements since this was asked last, which are to be recorded at once."""
        new, self._new = self._new, []
        return new

    def refusal(self, config: str, recipe: Recipe) -> str:
        """Why a config is not to be trained; empty where it may be. Its network is measured where it was not.

        Args:
            config: The config's id.
            recipe: Its recipe.
        """
        if not self._wanted:
            return ""
        if config not in self._known:
            event = self._measured(config, recipe)
            if event is None:
                return ""
            self.take_in(event)
            self._new.append(event)
        return self._beyond_latency(self._known[config]) or self._filtered(config)

    def _measured(self, config: str, recipe: Recipe) -> NetworkMeasured | None:
        seed = self._plan.sweep.seeds[0]
        data = prepared_data(self._plan, recipe, seed)
        if data is None:
            return None
        threads = self._plan.loaded.experiment.resources.cpus_per_rank
        arguments = (recipe, data.spec, None if self._preview else data.root, seed, self._wanted, threads)
        template = self._plan.cache.template
        measurement: UntrainedMeasurement | None = None
        if template is not None and "torch" not in sys.modules and template.start():
            with contextlib.suppress(TemplateLost):  # then it is done here
                measurement = template.call("expflow.training.untrained_measurements:measure_untrained", *arguments)
        if measurement is None:
            from expflow.training.untrained_measurements import measure_untrained  # imports torch

            measurement = measure_untrained(*arguments)
        return NetworkMeasured(config, measurement.metrics, measurement.seconds, measurement.failure)

    def _beyond_latency(self, event: NetworkMeasured) -> str:
        most, latency = self._plan.sweep.limits.latency_ms, event.metrics.get(LATENCY)
        if most is None or (latency is not None and latency <= most):
            return ""
        what = f"needs {latency:.3g} ms" if latency is not None else f"cannot be measured: {event.failure}"
        return f"limits.latency_ms is {most:g}, and the network {what}"

    def _filtered(self, config: str) -> str:
        """By rank among all that were measured up to this one, itself included; so what comes later changes nothing."""
        place = self._places[config]
        name = self._proxies.filter
        if name is None or place < self._proxies.after:
            return ""
        mine, others = self._scores[place], self._scores[: place + 1]
        if mine is None:
            return f"proxies: {name} cannot be measured: {self._known[config].failure or 'it is not finite'}"
        better = sum(score is not None and score > mine for score in others)
        if better < self._proxies.keep * len(others):
            return ""
        return f"proxies: {better} of {len(others)} networks have a better {name} than its {mine:.4g}"
