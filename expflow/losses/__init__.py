"""Losses. A loss is called with (output, target) and returns one value per sample, so that padding can be masked.

Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from expflow.config.spec import Spec, UserComponent
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.registry import construct, load_dotted

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[..., "Tensor"]
"""(output, target) -> one value per sample: (b, classes) scores and (b,) labels, or (b, classes) shares of labels, to
(b,) values; in segmentation (b, classes, h, w) scores and (b, h, w) labels to (b, h, w) or (b,) values. One of the
user's may return the mean instead."""

__all__ = ["Loss", "build"]


def build(spec: Spec, data_spec: DataSpec) -> Loss:
    """The loss that ``spec`` describes.

    The user's own is a class or function of arguments that returns the loss; where it has a parameter ``reduction``
    (as torch's losses have) that the YAML leaves open, it is ``none``: one value per sample.

    Args:
        spec: A registered loss, which is built by its own ``build(spec, data_spec)``, or the user's.
        data_spec: The data; also passed to a constructor of the user's that names it.

    Raises:
        UserError: What the user's component returns cannot be called.
    """
    if not isinstance(spec, UserComponent):
        return load_dotted(spec.build)(spec, data_spec)  # type: ignore[no-any-return]
    loss: Any = construct(spec.name, spec.arguments, {"reduction": "none", "data_spec": data_spec})
    if not callable(loss):
        raise UserError(
            f"loss {spec.name} gives a {type(loss).__name__}; something to call with (output, target) is needed"
        )
    return loss  # type: ignore[no-any-return]
