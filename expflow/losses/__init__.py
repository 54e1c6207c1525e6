"""Losses. A loss is called with (output, target) and gives one value per sample, so that padding can be masked.

Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from expflow.config.spec import Foreign, Spec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.registry import construct, load_dotted

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[..., "Tensor"]

__all__ = ["Loss", "build"]


def build(spec: Spec, data_spec: DataSpec) -> Loss:
    """The loss that ``spec`` describes.

    A registered one is built by its own ``build(spec, data_spec)``; it takes scores (b, classes) and labels (b,), and
    gives (b,) values.

    The user's own is a class or function of arguments that returns the loss; where it has a parameter ``reduction``
    (as torch's losses have) that the YAML leaves open, it is ``none``: one value per sample. ``data_spec`` is handed
    to a constructor that names it.
    """
    if not isinstance(spec, Foreign):
        return load_dotted(spec.build)(spec, data_spec)  # type: ignore[no-any-return]
    loss: Any = construct(spec.name, spec.arguments, {"reduction": "none", "data_spec": data_spec})
    if not callable(loss):
        raise UserError(
            f"loss {spec.name} gives a {type(loss).__name__}; something to call with (output, target) is needed"
        )
    return loss  # type: ignore[no-any-return]
