"""The peers of benchmarks/loader.py, each as its documentation has it, in an environment of their own.

    python peer_loaders.py prepare IMAGES FOLDER          writes each peer's own format
    python peer_loaders.py NAME IMAGES FOLDER WORKERS     serves passes over everything: see pass_server.py

The work is the same for all: decode, RandomResizedCrop(224), flip, and a batch of 64 float tensors.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import torch
from pass_server import serve
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

BATCH = 64
TRANSFORM = transforms.Compose(
    [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)


def listed(images: Path) -> list[tuple[Path, int]]:
    """Every image and its class, shuffled by a fixed seed."""
    paths = sorted(images.glob("*/*.jpg"))
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0)).tolist()
    classes = sorted({path.parent.name for path in paths})
    return [(paths[number], classes.index(paths[number].parent.name)) for number in order]


def options(workers: int) -> dict:
    """Arguments of a DataLoader that keeps its workers between passes."""
    return {"num_workers": workers, "persistent_workers": workers > 0}


def imagefolder(images: Path, folder: Path, workers: int) -> DataLoader:
    """torchvision's ImageFolder."""
    return DataLoader(datasets.ImageFolder(images, TRANSFORM), batch_size=BATCH, shuffle=True, **options(workers))


def identity(value: object) -> object:
    """What it is given."""
    return value


def prepare_webdataset(images: Path, folder: Path) -> None:
    """Eight shards: it has none for a worker where there are fewer shards than workers."""
    import webdataset

    items = listed(images)
    with webdataset.ShardWriter(str(folder / "shard-%06d.tar"), maxcount=-(-len(items) // 8), verbose=0) as writer:
        for number, (path, label) in enumerate(items):
            writer.write({"__key__": f"{number:08d}", "jpg": path.read_bytes(), "cls": label})


def with_webdataset(images: Path, folder: Path, workers: int) -> object:
    """The pipeline and the loader of its README."""
    import webdataset

    dataset = (
        webdataset.WebDataset([str(path) for path in sorted(folder.glob("*.tar"))], shardshuffle=100)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(TRANSFORM, identity)
        .batched(BATCH)
    )
    return webdataset.WebLoader(dataset, batch_size=None, **options(workers))


def as_litdata(item: tuple[Path, int]) -> dict:
    """What litdata keeps of an image: the file's bytes, and its class."""
    return {"image": item[0].read_bytes(), "label": item[1]}


def prepare_litdata(images: Path, folder: Path) -> None:
    """Chunks of 64 MB."""
    import litdata

    litdata.optimize(as_litdata, listed(images), str(folder), num_workers=1, chunk_bytes="64MB")


def with_litdata(images: Path, folder: Path, workers: int) -> object:
    """Its StreamingDataset and StreamingDataLoader, with Pillow and torchvision in ``__getitem__``."""
    import litdata

    class Dataset(litdata.StreamingDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            item = super().__getitem__(index)
            return TRANSFORM(Image.open(io.BytesIO(item["image"])).convert("RGB")), item["label"]

    dataset = Dataset(str(folder), shuffle=True)
    return litdata.StreamingDataLoader(dataset, batch_size=BATCH, **options(workers))


def prepare_mosaicml(images: Path, folder: Path) -> None:
    """MDS shards."""
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"image": "bytes", "label": "int"}) as writer:
        for path, label in listed(images):
            writer.write({"image": path.read_bytes(), "label": label})


def with_mosaicml(images: Path, folder: Path, workers: int) -> object:
    """Its StreamingDataset, with Pillow and torchvision in ``__getitem__``."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()

    class Dataset(StreamingDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            item = super().__getitem__(index)
            return TRANSFORM(Image.open(io.BytesIO(item["image"])).convert("RGB")), item["label"]

    return DataLoader(Dataset(local=str(folder), shuffle=True, batch_size=BATCH), batch_size=BATCH, **options(workers))


PREPARE = {"webdataset": prepare_webdataset, "litdata": prepare_litdata, "mosaicml-streaming": prepare_mosaicml}
LOADERS = {
    "ImageFolder": imagefolder,
    "webdataset": with_webdataset,
    "litdata": with_litdata,
    "mosaicml-streaming": with_mosaicml,
}


def main() -> None:
    """See the module's first lines."""
    name, images, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if name == "prepare":
        for peer, prepare in PREPARE.items():
            if not (folder / f"{peer}.done").exists():
                (folder / peer).mkdir(parents=True, exist_ok=True)
                prepare(images, folder / peer)
                (folder / f"{peer}.done").touch()
        return
    torch.set_num_threads(1)
    loader = LOADERS[name](images, folder / name, int(sys.argv[4]))
    serve(loader, lambda batch: len(batch[0]))


if __name__ == "__main__":
    main()
