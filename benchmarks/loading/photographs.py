"""JPEGs like ImageNet's: 500x375, 64 to 110 KB, made from the sample photographs of scikit-learn and scikit-image.

Each is another cut of a photograph, at another scale, mirrored or not, with other colours and a little of a sensor's
noise; its quality is chosen so that the file has the size that was drawn for it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375
SMALLEST, LARGEST = 64_000, 110_000
CLASSES = 10


def photographs() -> list[np.ndarray]:
    """The photographs (height, width, 3) to cut from: those that both packages carry in their wheels."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    named = (data.astronaut, data.chelsea, data.coffee, data.rocket, data.hubble_deep_field, data.immunohistochemistry)
    left, right, _ = data.stereo_motorcycle()
    return [*load_sample_images().images, *(load() for load in named), left, right]


def make(folder: Path, count: int) -> Path:
    """``count`` JPEGs below ``folder``, a folder per class; found there if they were made before."""
    done = folder / f"{count}.done"
    if done.exists():
        return folder / "images"
    sources = photographs()
    for number in range(count):
        path = folder / "images" / f"class{number % CLASSES}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one(sources[number % len(sources)], np.random.default_rng(number)))
    done.touch()
    return folder / "images"


def one(photograph: np.ndarray, random: np.random.Generator) -> bytes:
    """One JPEG, 4:2:0, baseline."""
    height, width = photograph.shape[:2]
    tall = min(height, width * HEIGHT / WIDTH) * random.uniform(0.6, 1.0)
    wide = tall * WIDTH / HEIGHT
    top, left = random.uniform(0, height - tall), random.uniform(0, width - wide)
    cut = Image.fromarray(photograph).resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(left, top, left + wide, top + tall)
    )
    pixels = np.asarray(cut, dtype=np.float32)[:, :: random.choice([-1, 1])]
    pixels = pixels * random.uniform(0.8, 1.2, 3) + random.normal(0, 4, (HEIGHT, WIDTH, 1))
    return sized(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), random.uniform(SMALLEST, LARGEST))


def sized(image: Image.Image, size: float) -> bytes:
    """``image`` at the quality whose file comes closest to ``size`` bytes from below."""
    low, high = 20, 100
    while low < high:
        quality = -(-(low + high) // 2)
        low, high = (quality, high) if len(encoded(image, quality)) <= size else (low, quality - 1)
    return encoded(image, low)


def encoded(image: Image.Image, quality: int) -> bytes:
    """``image`` as a baseline JPEG with subsampled colours."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()
