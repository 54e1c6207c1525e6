"""Images that a network makes up: those that excite a class, or more of what a layer finds in an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expflow.architectures.layer_outputs import find_layer, outputs_of
from expflow.errors import ExpflowError, UserError
from expflow.tasks.dream_scores import class_odds, layer_energy
from expflow.training.evaluation.evaluator import Evaluator, Weights
from expflow.training.evaluation.inference_network import example_inputs
from expflow.training.evaluation.network_inspection import as_picture
from expflow.training.evaluation.top_patches import network_of, require_images

DREAMS = 4
"""Images that are made."""
STEPS = 200
"""Steps of the ascent."""
RATE = 0.05
"""How far a step moves a pixel at most, of the range from black to white."""
SHRINK = 0.995
"""What is left of a pixel's distance from mid-grey after a step towards a class: an L2 penalty."""
SMOOTH_EVERY = 8
"""Steps between two in which the image is blurred a little: otherwise it becomes noise that no eye can read."""
SIDES_OF_A_SHIFT = 16
"""The image is shifted anew before each step, by at most its shorter side over this: what it shows is no grid then."""
SEED = 0
Score = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Of images (b, c, h, w) from 0 to 1 what is climbed (b,), and what is shown of it (b,)."""


@dataclass(frozen=True)
class Dreams:
    """What was made.

    Attributes:
        of: The class or layer.
        is_class: Whether it is a class.
        before: Where the ascent began, (height, width, channels) uint8 each.
        after: Where it ended.
        gain: What rose, at its beginning and end, for each image: the probability of the class, or the mean square of
            the layer's output.
    """

    of: str
    is_class: bool
    before: tuple[NDArray[np.uint8], ...]
    after: tuple[NDArray[np.uint8], ...]
    gain: tuple[tuple[float, float], ...]


def dream(evaluator: Evaluator, weights: Weights, wanted: str) -> Dreams:
    """Climb from images to others that excite a class or a layer more.

    For a class it begins with grey and a little noise; for a layer with the first images of val.

    Args:
        evaluator: Holds network and data.
        weights: The trained weights.
        wanted: Name of a class, or dotted path of a layer.

    Raises:
        UserError: It is neither, or the network takes no images or cannot be followed back to their pixels.

    Source:
        Simonyan et al., Deep Inside Convolutional Networks, 2014, section 2, for classes; Mordvintsev et al.,
        Inceptionism, 2015, for layers.
    """
    require_images(evaluator)
    evaluator.put_weights(weights, "these weights")
    task, spec = evaluator.task.eval(), evaluator.data_spec
    is_class = wanted in spec.classes
    layer = None if is_class else _layer(task, wanted, spec.classes)
    if is_class:
        generator = torch.Generator().manual_seed(SEED)
        begin = 0.5 + 0.05 * torch.randn(DREAMS, *spec.image_shape, generator=generator)
    else:
        begin = example_inputs(evaluator, "val", DREAMS).float() / 255

    score = _class_score(task, spec.classes, wanted) if layer is None else _layer_score(task, layer, wanted)
    after, gain = _climbed(begin.clamp(0, 1), score, shrink=SHRINK if is_class else 1.0)
    pictures = [tuple(as_picture((image * 255).round().byte()) for image in images) for images in (begin, after)]
    return Dreams(wanted, is_class, pictures[0], pictures[1], gain)


def _class_score(task: nn.Module, classes: Sequence[str], wanted: str) -> Score:
    """The log-odds of a class, which are climbed, and its probability, which is shown."""
    number = classes.index(wanted)

    def score(image_bchw: Tensor) -> tuple[Tensor, Tensor]:
        return class_odds(task(image_bchw * 255), len(classes), number)

    return score


def _layer_score(task: nn.Module, layer: nn.Module, name: str) -> Score:
    """The mean square of a layer's output, which is climbed and shown."""

    def score(image_bchw: Tensor) -> tuple[Tensor, Tensor]:
        with outputs_of(layer) as outputs:
            task(image_bchw * 255)
        squares = layer_energy(outputs[-1] if outputs else None, name)
        return squares, squares

    return score


def _layer(task: nn.Module, wanted: str, classes: tuple[str, ...]) -> nn.Module:
    try:
        return find_layer(network_of(task), wanted)
    except UserError as error:
        few = ", ".join([*classes[:10], *(["…"] if len(classes) > 10 else [])])
        raise UserError(f"{wanted!r} is no class ({few or 'there are none'}), and {error}") from error


def _climbed(begin_bchw: Tensor, score: Score, *, shrink: float) -> tuple[Tensor, tuple[tuple[float, float], ...]]:
    """Where the ascent ends, and for each image what it showed before and after."""
    image, generator = begin_bchw.clone(), torch.Generator().manual_seed(SEED)
    reach = min(begin_bchw.shape[2:]) // SIDES_OF_A_SHIFT
    with torch.no_grad():
        before = score(image)[1]
    for step in range(STEPS):
        move = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        shifted = image.roll(move, (2, 3)).requires_grad_()
        gradient = _gradient(score, shifted).roll([-move[0], -move[1]], (2, 3))
        largest = gradient.abs().flatten(1).amax(1).clamp(min=1e-12).view(-1, 1, 1, 1)
        image = image + RATE * gradient / largest
        image = 0.5 + (image - 0.5) * shrink
        if step % SMOOTH_EVERY == 0 and step < STEPS - SMOOTH_EVERY:
            image = _blurred(image)
        image = image.clamp(0, 1)
    with torch.no_grad():
        after = score(image)[1]
    return image, tuple(zip(before.tolist(), after.tolist(), strict=True))


def _gradient(score: Score, image_bchw: Tensor) -> Tensor:
    try:
        with torch.enable_grad():
            value = score(image_bchw)[0].sum()
        return torch.autograd.grad(value, image_bchw)[0]
    except ExpflowError:
        raise
    except RuntimeError as error:  # torch's word for what has no gradient
        raise UserError(
            "the network cannot be followed back to its pixels, since a part of it has no gradient: it cannot dream"
        ) from error


def _blurred(image_bchw: Tensor) -> Tensor:
    """Each pixel with a part of its eight neighbours; borders repeat."""
    kernel = torch.tensor([[0.5, 1, 0.5], [1, 10, 1], [0.5, 1, 0.5]])
    channels = image_bchw.shape[1]
    weight = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    padded = nn.functional.pad(image_bchw, (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(padded, weight, groups=channels)
