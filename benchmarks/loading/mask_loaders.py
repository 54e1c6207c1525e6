"""The loaders of benchmarks/segmentation_loader.py: expflow's, and a torchvision dataset with v2 transforms.

    python mask_loaders.py NAME FOLDER CACHE WORKERS     serves passes over everything: see pass_server.py

The work is the same for both: decode image and mask, one RandomResizedCrop(224) and one flip for both, and a batch of
64 with uint8 images and masks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from pass_server import serve

BATCH, SIZE = 64, 224
CLASSES = 21


def recipe(folder: Path, *, marked: bool = False) -> Any:
    """The spec of a folder of photographs with masks."""
    from expflow.data.specs import FolderSpec

    return FolderSpec.model_validate(
        {
            "name": "folder",
            "path": folder,
            "stored": "original",
            "restart_markers": marked,
            "classes": [str(number) for number in range(CLASSES)],
            "image_size": SIZE,
            "val_fraction": 0,
            "test_fraction": 0,
            "batch_size": BATCH,
            "memory": 0,
            "train": {"random_resized_crop": {}, "flip": 0.5},
        }
    )


def ours(folder: Path, cache: Path, workers: int, *, marked: bool = False) -> Any:
    """expflow's loader as a trial has it, streaming: with as many threads as workers, at least one."""
    from expflow.data.prepare.build import prepare
    from expflow.data.streaming.loader import loader_for

    spec = recipe(folder, marked=marked)
    root = prepare(spec, cache=cache / "ours").root
    return loader_for(spec, root, "train", seed=0, shuffle=True, threads=max(workers, 1))


def ours_marked(folder: Path, cache: Path, workers: int) -> Any:
    """The same with restart markers in the JPEGs, which change no pixel."""
    return ours(folder, cache, workers, marked=True)


class MaskDataset(torch.utils.data.Dataset):
    """Photographs and masks, read as torchvision's VOCSegmentation reads them and transformed by v2."""

    def __init__(self, folder: Path) -> None:
        from torchvision.transforms import v2

        self.images = sorted((folder / "images").glob("*.jpg"))
        self.masks = [folder / "masks" / f"{path.stem}.png" for path in self.images]
        self.transforms = v2.Compose(
            [v2.ToImage(), v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Any:
        from PIL import Image
        from torchvision import tv_tensors
        from torchvision.transforms.v2 import functional

        image = Image.open(self.images[number]).convert("RGB")
        mask = tv_tensors.Mask(functional.pil_to_tensor(Image.open(self.masks[number])).squeeze(0))
        return self.transforms(image, mask)


def theirs(folder: Path, cache: Path, workers: int) -> Any:
    """The torchvision dataset in a DataLoader that keeps its workers between passes."""
    return torch.utils.data.DataLoader(
        MaskDataset(folder), batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def samples(batch: Any) -> int:
    """Images of a batch; refuses one that is not what both have to give."""
    image, mask = (batch["image"], batch["mask"]) if isinstance(batch, dict) else batch
    if image.shape[1:] != (3, SIZE, SIZE) or mask.shape != (len(image), SIZE, SIZE) or image.dtype != torch.uint8:
        raise SystemExit(f"not the same work: images {tuple(image.shape)} {image.dtype}, masks {tuple(mask.shape)}")
    return len(image)


LOADERS = {"expflow": ours, "expflow with restart markers": ours_marked, "torchvision": theirs}


def main() -> None:
    """See the module's first lines."""
    torch.set_num_threads(1)
    name, folder, cache, workers = sys.argv[1:]
    serve(LOADERS[name](Path(folder), Path(cache), int(workers)), samples)


if __name__ == "__main__":
    main()
