"""A bound on what a constructor may build: a depth of two thousand million would keep a plan busy for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from expflow.errors import UserError

MAX_PARTS = 100_000
"""Modules and parameters of one network: ResNet-1202 has 9,000, and building so many takes seconds."""


@contextmanager
def within_size_limit(name: str) -> Iterator[None]:
    """Refuse a network of more than ``MAX_PARTS`` modules and parameters while the body builds it.

    Args:
        name: The network's name, for the message.

    Raises:
        UserError: It has more.
    """
    from torch.nn.modules import module

    count = 0

    def on_registration(parent: Any, key: str, part: Any) -> None:
        nonlocal count
        count += 1
        if count > MAX_PARTS:
            raise UserError(
                f"model {name} has more than {MAX_PARTS:,} modules and parameters; lower its depth, or its number of "
                "blocks or layers"
            )

    handles = [
        module.register_module_module_registration_hook(on_registration),
        module.register_module_parameter_registration_hook(on_registration),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
