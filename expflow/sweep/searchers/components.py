"""Names of searchers, and where the arguments of each are declared. Imports no spec.

A new component is declared here and in its spec, and nowhere else.
"""

from __future__ import annotations

from expflow.registry import Component

SEARCHERS = (
    Component("grid", "expflow.sweep.searchers.specs:GridSpec"),
    Component("random", "expflow.sweep.searchers.specs:RandomSpec"),
    Component("points", "expflow.sweep.searchers.specs:PointsSpec"),
    Component("tpe", "expflow.sweep.searchers.specs:TPESpec"),
    Component("optuna", "expflow.sweep.searchers.specs:OptunaSpec"),
    Component("nsga2", "expflow.sweep.searchers.specs:NSGA2Spec"),
    Component("controller", "expflow.search.specs:ControllerSpec"),
    Component("evolution", "expflow.search.specs:EvolutionSpec"),
    Component("local", "expflow.search.specs:LocalSpec"),
    Component("arms", "expflow.search.specs:ArmsSpec"),
    Component("predictor", "expflow.search.specs:PredictorSpec"),
)
