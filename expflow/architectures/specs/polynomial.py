"""Arguments of polynomials. Torch-free: they are in ``expflow.architectures.polynomial``."""

from __future__ import annotations

from typing import ClassVar

from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity


class PolynomialNetSpec(ModelSpec):
    """A polynomial in each pixel, summed over the pixels; of an image of one pixel a polynomial of degree M."""

    build: ClassVar[str] = "expflow.architectures.polynomial:build"

    degree: int = identity(3, description="M: the highest power of a pixel.", ge=1, le=100)
