"""Names of losses, and where the arguments of each are declared. Imports no spec.

A new component is declared here and in its spec, and nowhere else.
"""

from __future__ import annotations

from expflow.registry import Component

LOSSES = (
    Component("cross_entropy", "expflow.losses.specs:CrossEntropySpec"),
    Component("nll", "expflow.losses.specs:NLLSpec"),
    Component("hinge", "expflow.losses.specs:HingeSpec"),
    Component("squared", "expflow.losses.specs:SquaredSpec"),
    Component("l1", "expflow.losses.specs:L1Spec"),
    Component("smooth_l1", "expflow.losses.specs:SmoothL1Spec"),
    Component("focal", "expflow.losses.specs:FocalSpec"),
    Component("dice", "expflow.losses.specs:DiceSpec"),
    Component("bce", "expflow.losses.specs:BCESpec"),
)
