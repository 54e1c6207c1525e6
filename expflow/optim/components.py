"""Names of optimizers and learning-rate schedules, and where the arguments of each are declared. Imports no spec.

A new component is declared here and in its spec, and nowhere else.
"""

from __future__ import annotations

from expflow.registry import Component

OPTIMIZERS = (
    Component("sgd", "expflow.optim.specs:SGDSpec"),
    Component("adam", "expflow.optim.specs:AdamSpec"),
    Component("adamw", "expflow.optim.specs:AdamWSpec"),
    Component("rmsprop", "expflow.optim.specs:RMSpropSpec"),
    Component("lars", "expflow.optim.specs:LARSSpec"),
    Component("lamb", "expflow.optim.specs:LAMBSpec"),
)

SCHEDULES = (
    Component("constant", "expflow.optim.specs:ConstantSpec"),
    Component("step", "expflow.optim.specs:StepSpec"),
    Component("multi_step", "expflow.optim.specs:MultiStepSpec"),
    Component("cosine", "expflow.optim.specs:CosineSpec"),
    Component("polynomial", "expflow.optim.specs:PolynomialSpec"),
    Component("one_cycle", "expflow.optim.specs:OneCycleSpec"),
    Component("triangular", "expflow.optim.specs:TriangularSpec"),
    Component("plateau", "expflow.optim.specs:PlateauSpec"),
)
