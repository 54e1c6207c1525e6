"""Names of schedulers, and where the arguments of each are declared. Imports no spec.

A new component is declared here and in its spec, and nowhere else.
"""

from __future__ import annotations

from expflow.registry import Component

SCHEDULERS = (
    Component("none", "expflow.sweep.schedulers.specs:NoSchedulerSpec"),
    Component("asha", "expflow.sweep.schedulers.specs:ASHASpec"),
    Component("median", "expflow.sweep.schedulers.specs:MedianSpec"),
    Component("successive_halving", "expflow.sweep.schedulers.specs:SuccessiveHalvingSpec"),
    Component("hyperband", "expflow.sweep.schedulers.specs:HyperbandSpec"),
    Component("pbt", "expflow.sweep.schedulers.specs:PBTSpec"),
)
