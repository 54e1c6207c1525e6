"""What the layers of a trained classifier give for images, with gradients back to the pixels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expflow.architectures.layer_outputs import find_layer
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


class _AllSeen(Exception):
    """Raised behind the last layer that is asked for: what follows is not computed."""


class LayerFeatures:
    """A trained classifier whose layers are looked at; its weights stay as they are.

    Args:
        network: The classifier, with its weights.
        data_spec: The data that it was trained on.
        origin: Where it is from, for messages.
    """

    def __init__(self, network: nn.Module, data_spec: DataSpec, origin: str) -> None:
        self._network, self._spec, self.origin = network.eval().requires_grad_(False), data_spec, origin

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it tells apart."""
        return self._spec.classes

    def _normalised(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) images from 0 to 1 as the network was shown those that it learned on."""
        self._network.to(image_bchw.device)
        mean, std = (image_bchw.new_tensor(values).view(-1, 1, 1) for values in (self._spec.mean, self._spec.std))
        return (image_bchw - mean) / std

    def scores(self, image_bchw: Tensor) -> Any:
        """(b, c, h, w) images from 0 to 1 -> what the network gives.

        Args:
            image_bchw: The images.
        """
        return self._network(self._normalised(image_bchw))

    def of(self, image_bchw: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """The outputs of layers, in the order of ``layers``; nothing behind the last of them is computed.

        Args:
            image_bchw: (b, c, h, w) images from 0 to 1.
            layers: Dotted paths.
        """
        outputs: dict[str, Any] = {}

        def keep(name: str, out: Any) -> None:
            outputs[name] = out.clone() if isinstance(out, Tensor) else out  # an activation may change it in place
            if len(outputs) == len(set(layers)):
                raise _AllSeen

        handles = [
            find_layer(self._network, name).register_forward_hook(lambda module, args, out, name=name: keep(name, out))
            for name in dict.fromkeys(layers)
        ]
        try:
            self.scores(image_bchw)
        except _AllSeen:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return [outputs[name] for name in layers]

    def check(self, image_shape: tuple[int, int, int], layers: Mapping[str, Sequence[str]], dims: int = 0) -> None:
        """Require that the layers give something for images of a shape.

        Args:
            image_shape: (c, h, w).
            layers: Key of the task to the layers that it names.
            dims: Dimensions of the outputs that are needed; 0 where any do.

        Raises:
            UserError: There is no such layer, the network does not take the images, or it gives something else there.
        """
        channels = self._spec.image_shape[0]
        if image_shape[0] != channels:
            raise UserError(
                f"task.features: {self.origin} takes images of {channels} channels, and these have {image_shape[0]}"
            )
        for key, names in layers.items():
            for name in names:
                try:
                    with torch.no_grad():
                        [out] = self.of(torch.full((2, *image_shape), 0.5), [name])
                except UserError as error:
                    raise UserError(f"task.{key}: {self.origin}: {error}") from error
                except (RuntimeError, ValueError, KeyError) as error:  # torch's words for a size that does not fit
                    raise UserError(
                        f"task.{key}: {self.origin}, trained on images of {self._spec.image_shape}, gives no output at"
                        f" {name} for images of {image_shape} (channels, height, width): {error}"
                    ) from error
                if not isinstance(out, Tensor) or not out.is_floating_point() or dims not in (0, out.ndim):
                    given = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"type {type(out).__name__}"
                    raise UserError(
                        f"task.{key}: {name} gives an output of {given} for two images; expected are maps (images,"
                        " channels, height, width), as of a convolution"
                    )


@dataclass(frozen=True)
class PictureChoice:
    """Which pictures of the data a task is given before it begins.

    Attributes:
        key: The task's key that asks for them, for messages.
        split: Of which split.
        number: How many.
        of: Name of the class that they have; "" for any.
        but: Name of a class that they do not have; "" for none.
        drawn: Whether the trial's seed draws them, of as many as are looked at; else they are the first ones.
    """

    key: str
    split: str
    number: int
    of: str = ""
    but: str = ""
    drawn: bool = False


class LayerFeatureTask:
    """Part of a task that looks at images through the layers of the classifier that its recipe names."""

    _features: LayerFeatures | None = None

    @property
    def features(self) -> LayerFeatures:
        """The classifier.

        Raises:
            UserError: Nobody gave it.
        """
        if self._features is None:
            raise UserError("task.features: the classifier was not given to the task")
        return self._features

    def look_through(self, features: LayerFeatures) -> None:
        """Take the classifier, which is no part of this module.

        Args:
            features: The classifier.

        Raises:
            UserError: It does not fit the images, or lacks what the task names.
        """
        self._features = features

    @abstractmethod
    def picture_choices(self) -> Mapping[str, PictureChoice]:
        """Which pictures the task needs, by names of its own."""

    @abstractmethod
    def take_pictures(self, name: str, image_nchw: Tensor) -> None:
        """Take pictures of :meth:`picture_choices`; they are part of the checkpoints.

        Args:
            name: The name there.
            image_nchw: (n, c, h, w) uint8.
        """
