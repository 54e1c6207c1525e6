"""expflow's loader as a trial has it, on the same photographs as the peers.

python expflow_loader.py IMAGES CACHE THREADS     serves passes over the training split: see pass_server.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

BATCH, SIZE = 64, 224


def recipe(images: Path, *, marked: bool = False) -> Any:
    """The spec of the folder of JPEGs with the transforms of training on ImageNet."""
    from expflow.data.specs import FolderSpec

    return FolderSpec.model_validate(
        {
            "name": "folder",
            "path": images,
            "stored": "original",
            "restart_markers": marked,
            "image_size": SIZE,
            "val_fraction": 0,
            "test_fraction": 0,
            "batch_size": BATCH,
            "train": {"random_resized_crop": {}, "flip": 0.5},
        }
    )


def prepared(images: Path, cache: Path, *, marked: bool = False) -> Any:
    """The shards of the photographs, built by the first call."""
    from expflow.data.prepare.build import prepare

    return prepare(recipe(images, marked=marked), cache=cache / "ours")


def loader(images: Path, cache: Path, threads: int, *, marked: bool = False) -> Any:
    """The loader of the training split."""
    from expflow.data.streaming.loader import loader_for

    root = prepared(images, cache, marked=marked).root
    return loader_for(recipe(images, marked=marked), root, "train", seed=0, shuffle=True, threads=threads)


def main() -> None:
    """See the module's first lines."""
    import torch
    from pass_server import serve

    torch.set_num_threads(1)
    images, cache, threads, stored = sys.argv[1:]
    batches = loader(Path(images), Path(cache), int(threads), marked=stored == "marked")
    serve(batches, lambda batch: len(batch["image"]))


if __name__ == "__main__":
    main()
