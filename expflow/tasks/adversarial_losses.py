"""What a generator and a discriminator minimise, from the discriminator's logits of real and of made images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

Values = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of one objective, elementwise over logits.

    Attributes:
        of_real: What the discriminator minimises on real images.
        of_made: What it minimises on made ones.
        of_generator: What the generator minimises on those that it made.
    """

    of_real: Values
    of_made: Values
    of_generator: Values


OBJECTIVES: dict[str, AdversarialLoss] = {
    # Goodfellow et al. 2014, "Generative Adversarial Nets", equation 1 and the end of section 3:
    # -log D(x), -log(1 - D(G(z))) and -log D(G(z)), with D the sigmoid of the logits
    "non_saturating": AdversarialLoss(
        of_real=lambda logits: functional.softplus(-logits),
        of_made=functional.softplus,
        of_generator=lambda logits: functional.softplus(-logits),
    ),
    # Lim and Ye 2017, "Geometric GAN"; Miyato et al. 2018, "Spectral Normalization", equations 16 and 17
    "hinge": AdversarialLoss(
        of_real=lambda logits: functional.relu(1 - logits),
        of_made=lambda logits: functional.relu(1 + logits),
        of_generator=lambda logits: -logits,
    ),
    # Mao et al. 2017, "Least Squares Generative Adversarial Networks", equation 9 (a = 0, b = c = 1)
    "least_squares": AdversarialLoss(
        of_real=lambda logits: (logits - 1).square() / 2,
        of_made=lambda logits: logits.square() / 2,
        of_generator=lambda logits: (logits - 1).square() / 2,
    ),
}
"""Objectives by name."""


def mean_per_image(values: Tensor) -> Tensor:
    """(b, …) values of the patches of images -> (b,) their means.

    Args:
        values: One value or several for each image.
    """
    return values.flatten(1).mean(1)


def valid_mean(values_b: Tensor, valid_b: Tensor) -> Tensor:
    """(b,) -> () the mean over valid images; 0 where there are none.

    Args:
        values_b: A value for each image.
        valid_b: (b,), false for padding.
    """
    return values_b.masked_fill(~valid_b, 0).sum() / valid_b.sum().clamp(min=1)
