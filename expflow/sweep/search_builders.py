"""Searcher, scheduler and search state of a plan, each fresh: they begin at the beginning, as replay needs."""

from __future__ import annotations

from expflow.config.component_specs import searcher_spec
from expflow.config.spec import UserComponent
from expflow.registry import construct, load_dotted
from expflow.sweep.network_limits import identify
from expflow.sweep.parent_weights import can_inherit, inherits
from expflow.sweep.plan import Plan
from expflow.sweep.schedulers import Scheduler, SchedulerContext
from expflow.sweep.search_state import SearchState
from expflow.sweep.searchers import SearchAlgorithm
from expflow.sweep.untrained_networks import UntrainedNetworks


def build_searcher(plan: Plan) -> SearchAlgorithm:
    """A fresh searcher.

    Args:
        plan: The plan whose sweep names it.
    """
    spec = plan.sweep.searcher
    searcher: SearchAlgorithm
    if isinstance(spec, UserComponent):
        searcher = construct(
            spec.name, spec.arguments, {"space": plan.sweep.space, "mode": plan.mode, "objectives": plan.objectives}
        )
    elif searcher_spec(spec).several_objectives:
        searcher = load_dotted(spec.build)(spec, plan.sweep.space, plan.objectives)
    else:
        searcher = load_dotted(spec.build)(spec, plan.sweep.space, plan.mode)
    return searcher


def build_scheduler(plan: Plan) -> Scheduler | None:
    """A fresh scheduler; None where every trial runs to its end.

    Args:
        plan: The plan whose sweep names it.
    """
    spec = plan.sweep.scheduler
    context = SchedulerContext(plan.loaded.experiment.trainer.epochs, plan.sweep.space, plan.accepts)
    scheduler: Scheduler
    if isinstance(spec, UserComponent):
        scheduler = construct(spec.name, spec.arguments, {"surroundings": context})
    elif spec is None or not spec.build:
        return None
    else:
        scheduler = load_dotted(spec.build)(spec, context)
    return scheduler


def build_search_state(plan: Plan) -> SearchState:
    """A fresh searcher and scheduler, to be fed with the ledger.

    Args:
        plan: The plan that is searched.
    """
    networks = UntrainedNetworks(plan)
    return SearchState(
        build_searcher(plan),
        build_scheduler(plan),
        plan.objective,
        search=plan.search_key,
        identify=lambda values: identify(plan, values, networks),
        limit=plan.limit,
        has_weights=(lambda trial: can_inherit(plan.folder, trial)) if inherits(plan.sweep) else None,
        networks=networks,
    )
