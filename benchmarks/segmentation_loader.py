"""How fast training images come with their masks: expflow's loader beside a torchvision dataset with v2 transforms.

Both get the same JPEGs (500x375, 64 to 110 KB) with masks of 21 classes (PNG with a palette, as VOC's), decode both,
take one RandomResizedCrop of 224 pixels and one flip for both, and make batches of 64 in uint8. Two columns: in one
process on one core (expflow: one decoding thread), and with two workers (expflow: two threads) on all cores. Each
loader lives in a process of its own, and they take short turns, one pass over all images each, after a pass that is
not timed. What is claimed is the median over the rounds of the ratio within a round. The peer reads as torchvision's
VOCSegmentation does. expflow takes part twice: with the files as they are, and, where jpegtran is installed, with
restart markers put in by the build, which change no pixel.

    python benchmarks/segmentation_loader.py [--images 500] [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from loading import loader_race
from loading.photographs import HEIGHT, WIDTH, make
from PIL import Image

SCRIPT = Path(__file__).parent / "loading" / "mask_loaders.py"
OURS, MARKED, PEER = "expflow", "expflow with restart markers", "torchvision"
CLASSES = 21


def make_masked(folder: Path, count: int) -> Path:
    """``count`` photographs with masks in the layout images/ and masks/; found there if they were made before."""
    target = folder / "masked"
    if (folder / "masked.done").exists():
        return target
    photographs = sorted(make(folder, count).glob("*/*.jpg"))
    for part in ("images", "masks"):
        (target / part).mkdir(parents=True, exist_ok=True)
    for path in photographs:
        (target / "images" / path.name).write_bytes(path.read_bytes())
        mask(np.random.default_rng(int(path.stem))).save(target / "masks" / f"{path.stem}.png")
    (folder / "masked.done").touch()
    return target


def mask(random: np.random.Generator) -> Image.Image:
    """Areas with wavy outlines: up to six ellipses of a class each on background, with a rim of void."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(random.integers(1, 7)):
        middle_y, middle_x = random.uniform(0, HEIGHT), random.uniform(0, WIDTH)
        tall, wide = random.uniform(30, 150, 2)
        angle = np.arctan2(y - middle_y, x - middle_x)
        waves = 1 + 0.1 * np.sin(random.integers(3, 12) * angle)
        distance = np.hypot((y - middle_y) / tall, (x - middle_x) / wide) / waves
        values[distance < 1.03] = 255
        values[distance < 1] = random.integers(1, CLASSES)
    picture = Image.frombytes("P", (WIDTH, HEIGHT), values.tobytes())
    picture.putpalette([(number * factor) % 256 for number in range(256) for factor in (67, 101, 151)])
    return picture


def names() -> tuple[str, ...]:
    """The loaders that can take part."""
    return (OURS, *((MARKED,) if shutil.which("jpegtran") else ()), PEER)


def race(folder: Path, cache: Path, rounds: int, column: str, workers: int) -> dict[str, list[float]]:
    """Loader -> images per second in each round."""
    processes = {
        name: loader_race.LoaderProcess(
            [sys.executable, str(SCRIPT), name, str(folder), str(cache), str(workers)], pinned=workers == 0
        )
        for name in names()
    }
    for process in processes.values():
        process.ready()
    rates: dict[str, list[float]] = {name: [] for name in names()}
    for number in range(rounds):
        for name, process in processes.items():
            rates[name].append(process.turn())
        line = ", ".join(f"{name} {values[-1]:.0f}" for name, values in rates.items())
        print(f"{column}, round {number + 1}: {line} images/s", flush=True)
    for process in processes.values():
        process.leave()
    return rates


def figure(column: str, name: str, rates: dict[str, list[float]]) -> dict[str, Any]:
    """One line of the claims: medians, and the median of the ratios."""
    ratio = loader_race.ratio(rates[name], rates[PEER])
    print(f"{column}: {name} {ratio:.2f} times torchvision's dataset with v2 transforms")
    return {
        "name": f"{column}_masks_vs_torchvision{'' if name == OURS else '_with_restart_markers'}",
        "ours": round(statistics.median(rates[name]), 1),
        "peer": round(statistics.median(rates[PEER]), 1),
        "ratio": round(ratio, 3),
        "peer_name": "a dataset with v2 transforms in a DataLoader",
        "unit": "images/s",
        "better": "higher",
    }


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    home = Path.home() / ".cache" / "expflow-benchmarks" / "segmentation_loader"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=home, help="where images and shards are kept")
    options = parser.parse_args()
    cache = options.cache / f"{options.images}-images"
    cache.mkdir(parents=True, exist_ok=True)
    folder = make_masked(cache, options.images)
    figures = []
    for column, workers in loader_race.COLUMNS.items():
        rates = race(folder, cache, options.rounds, column, workers)
        figures += [figure(column, name, rates) for name in rates if name != PEER]
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
