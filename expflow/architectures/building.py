"""Building one network from its spec. Importing this module imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expflow.architectures.size_limit import within_size_limit
from expflow.config.component_specs import model_output
from expflow.config.spec import Spec, UserComponent
from expflow.data.dataspec import DataSpec
from expflow.errors import ExpflowError, UserError
from expflow.registry import construct, load_dotted

if TYPE_CHECKING:
    from torch import nn

WITHOUT_CLASSES = ("images", "centre", "realness", "pixels")
"""What networks give that are built for data without classes, too."""


def supplied_by(data_spec: DataSpec) -> dict[str, object]:
    """The arguments that the data supply to a user's component whose signature names them and whose YAML does not.

    Args:
        data_spec: The data that the component is built for.

    Returns:
        ``data_spec``; ``num_classes`` where there are classes; ``in_channels`` and ``image_size`` (height, width in
        pixels) where there are images.
    """
    supplied: dict[str, object] = {"data_spec": data_spec}
    if data_spec.classes:
        supplied["num_classes"] = data_spec.num_classes
    if "image" in data_spec.fields:
        supplied |= {"in_channels": data_spec.in_channels, "image_size": data_spec.image_size}
    return supplied


def build(spec: Spec, data_spec: DataSpec) -> nn.Module:
    """The network that ``spec`` describes, sized for ``data_spec``, with fresh weights.

    Args:
        spec: The spec of a registered architecture, which is built by its ``build``, or a
            :class:`~expflow.config.spec.UserComponent`, which is built by its own constructor with the arguments of
            :func:`supplied_by` that it names.
        data_spec: The images and classes that the network is for.

    Raises:
        UserError: It cannot be built for these data; the message has the reason.
    """
    from torch import nn

    try:
        with within_size_limit(spec.name):
            network = _construct(spec, data_spec)
    except ExpflowError:
        raise
    except Exception as error:  # a constructor, the user's own above all, may raise anything: it is their reason
        raise UserError(f"model {spec.name} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model {spec.name} is a {type(network).__name__}; a torch.nn.Module is needed")
    return network


def _construct(spec: Spec, data_spec: DataSpec) -> object:
    if isinstance(spec, UserComponent):
        return construct(spec.name, spec.arguments, supplied_by(data_spec))
    if model_output(spec) in ("tokens", "embeddings"):
        return load_dotted(spec.build)(spec, data_spec)  # it says itself which fields it needs
    if "image" in data_spec.fields and (data_spec.classes or model_output(spec) in WITHOUT_CLASSES):
        return load_dotted(spec.build)(spec, data_spec)
    if model_output(spec) in WITHOUT_CLASSES:
        raise UserError(f"model {spec.name} needs data with the field image")
    raise UserError(f"model {spec.name} needs data with the field image and with classes")
