"""Scikit-learn's digits: real images that come with a package, so the first experiment needs no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from expflow.data.source_spec import Origin
from expflow.data.sources.base import SampleRef, SampleSource, draw_splits, image_fields
from expflow.data.specs import DigitsSpec
from expflow.errors import PackageMissing


def open_digits(spec: DigitsSpec, origin: Origin) -> SampleSource:
    """Open 1,797 images of 8x8 pixels in ten classes. Their 17 grey levels become 0..255.

    Args:
        spec: the recipe's source.
        origin: not used, since the images come with a package.

    Raises:
        PackageMissing: scikit-learn is not installed.

    Source:
        Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise PackageMissing("the digits need scikit-learn: pip install scikit-learn") from error
    data = load_digits()
    images_nhwc = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
    items = [SampleRef(str(number), int(label)) for number, label in enumerate(data.target)]

    def read(item: SampleRef) -> Mapping[str, Any]:
        return {"image": images_nhwc[int(item.name)], "label": item.label}

    return SampleSource(
        classes=tuple(str(name) for name in data.target_names),
        splits=draw_splits(items, {"val": spec.val_fraction, "test": spec.test_fraction}, spec.split_seed),
        read=read,
        **image_fields(1, 8, 8),
    )
