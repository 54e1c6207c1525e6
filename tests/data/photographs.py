"""Real photographs, from scikit-learn's wheel, as files of many kinds."""

import io
from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

KINDS = {
    "4:2:0": {"subsampling": "4:2:0"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:4:4": {"subsampling": "4:4:4"},
    "every 2 units": {"subsampling": "4:2:0", "restart_marker_blocks": 2},
    "every 5 units": {"subsampling": "4:2:2", "restart_marker_blocks": 5},
    "every row": {"subsampling": "4:2:0", "restart_marker_rows": 1},
    "every 3 rows": {"subsampling": "4:2:0", "restart_marker_rows": 3},
    "out of step": {"subsampling": "4:2:0", "restart_marker_blocks": 7},
    "progressive": {"subsampling": "4:2:0", "progressive": True},
    "grey": {"mode": "L"},
    "grey, every 4 units": {"mode": "L", "restart_marker_blocks": 4},
}


@cache
def photograph(number=0, size=(320, 213)):
    """A colour photograph, ``size`` (width, height) large."""
    return Image.fromarray(load_sample_images().images[number]).resize(size, Image.Resampling.LANCZOS)


@cache
def jpeg(kind="4:2:0", number=0, size=(320, 213), quality=90):
    options = dict(KINDS[kind])
    image = photograph(number, size).convert(options.pop("mode", "RGB"))
    return saved(image, "JPEG", quality=quality, **options)


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
