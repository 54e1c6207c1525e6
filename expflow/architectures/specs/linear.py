"""Arguments of linear classifiers. Torch-free: the networks are in ``expflow.architectures.linear``."""

from __future__ import annotations

from typing import ClassVar

from expflow.config.component_specs import ModelSpec


class LinearSpec(ModelSpec):
    """Linear classifier on the flattened image: one score per class."""

    build: ClassVar[str] = "expflow.architectures.linear:build"
