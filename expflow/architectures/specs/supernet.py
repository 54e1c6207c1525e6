"""Arguments of the network of a one-shot search. Torch-free: the network is in ``expflow.architectures.supernet``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from expflow.architectures.specs.blocks import Activation, Init
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.child_space import OPERATION_SETS, OPERATIONS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import FieldError, identity
from expflow.errors import nearest


class SupernetSpec(ModelSpec):
    """All children of a cell space in one network (DARTS, PC-DARTS): each edge mixes every operation, by weights."""

    build: ClassVar[str] = "expflow.architectures.supernet:build"

    nodes: int = identity(4, ge=1, le=12, description="Nodes of a cell; each reads all that come before it.")
    operations: Literal["darts", "nasnet"] | tuple[str, ...] = identity(
        "darts", description="Operations that each edge mixes: darts, nasnet, or a list. None at all is one more."
    )
    cells: int = identity(
        8, ge=3, le=1000, description="Number of cells; those after a third and two thirds of them halve the size."
    )
    width: int = identity(16, ge=2, le=MAX_CHANNELS, description="Channels of the first cells; each reduction doubles.")
    stem_factor: int = identity(
        3, ge=1, le=MAX_CHANNELS, description="Channels of the convolution before the cells, in units of width."
    )
    partial: int = identity(
        1,
        ge=1,
        le=64,
        description="One in so many channels goes through the operations, the others pass (PC-DARTS: 4, with weights of"
        " edges beside those of operations); 1: all of them (DARTS).",
    )
    activation: Activation = identity("relu", description="Non-linearity of each convolution.")
    init: Init = identity("torch", description="How the weights of convolutions are drawn.")

    @model_validator(mode="after")
    def _operations_are_known(self) -> Self:
        for name in self.operation_names:
            if name not in OPERATIONS:
                close = nearest(name, OPERATIONS)
                hint = f"nearest: {close}" if close else f"expected some of {', '.join(OPERATIONS)}"
                raise FieldError("operations", f"there is no operation {name!r}; {hint}")
        if len(set(self.operation_names)) < max(2, len(self.operation_names)):
            raise FieldError("operations", "expected at least two operations, each once")
        return self

    @model_validator(mode="after")
    def _widths_divide(self) -> Self:
        if self.width % 2:
            raise FieldError("width", f"cells need an even width, found {self.width}")
        if self.width % (2 * self.partial) and self.partial > 1:
            raise FieldError("partial", f"of {self.width} channels an even number has to be one in {self.partial}")
        return self

    @property
    def operation_names(self) -> tuple[str, ...]:
        """The operations of an edge, without none."""
        return OPERATION_SETS[self.operations] if isinstance(self.operations, str) else self.operations
