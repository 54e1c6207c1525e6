"""ImageNet in small, in every layout that people keep it in: three synsets, a few JPEGs, the developers' kit."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SYNSETS = ("n01440764", "n01443537", "n02012849")
TRAIN, VAL = 6, 3
"""Images of each synset."""

NUMBERS = {"n01440764": 3, "n01443537": 1, "n02012849": 2}
"""The kit's own numbers, which are in another order."""


def jpeg(seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB", form: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).convert(mode).save(buffer, form)
    return buffer.getvalue()


def train_images() -> dict[str, dict[str, bytes]]:
    return {
        synset: {f"{synset}_{number}.JPEG": jpeg(100 * place + number, (40 + number, 30)) for number in range(TRAIN)}
        for place, synset in enumerate(SYNSETS)
    }


def val_images() -> dict[str, tuple[str, bytes]]:
    """File name to synset and content; the synsets take turns."""
    return {
        f"ILSVRC2012_val_{number + 1:08d}.JPEG": (SYNSETS[number % 3], jpeg(1000 + number)) for number in range(3 * VAL)
    }


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def train_folders(root: Path, name: str = "train") -> None:
    for synset, images in train_images().items():
        write(root / name / synset, images)


def train_tars(root: Path) -> None:
    write(root / "train", {f"{synset}.tar": tar_of(images) for synset, images in train_images().items()})


def train_archive(root: Path) -> None:
    inner = {f"{synset}.tar": tar_of(images) for synset, images in train_images().items()}
    write(root, {"ILSVRC2012_img_train.tar": tar_of(inner)})


def val_sorted(root: Path) -> None:
    for name, (synset, content) in val_images().items():
        write(root / "val" / synset, {name: content})


def val_flat(root: Path, name: str = "val") -> None:
    write(root / name, {image: content for image, (_, content) in val_images().items()})


def val_archive(root: Path) -> None:
    write(root, {"ILSVRC2012_img_val.tar": tar_of({name: content for name, (_, content) in val_images().items()})})


def kit_files() -> dict[str, bytes]:
    truth = "".join(f"{NUMBERS[synset]}\n" for synset, _ in val_images().values())
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    words = {"n01440764": "tench, Tinca tinca", "n01443537": "goldfish, Carassius auratus", "n02012849": "crane"}
    rows = [(NUMBERS[synset], synset, words[synset], "", 0) for synset in SYNSETS] + [(4, "n00000001", "thing", "", 2)]
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": np.array(rows, dtype=kind)})
    return {"ILSVRC2012_validation_ground_truth.txt": truth.encode(), "meta.mat": buffer.getvalue()}


def kit_folder(root: Path) -> None:
    write(root / "ILSVRC2012_devkit_t12" / "data", kit_files())


def kit_archive(root: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in kit_files().items():
            info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    write(root, {"ILSVRC2012_devkit_t12.tar.gz": buffer.getvalue()})


def kaggle(root: Path) -> None:
    train_folders(root, "ILSVRC/Data/CLS-LOC/train")
    val_flat(root, "ILSVRC/Data/CLS-LOC/val")
    rows = [f"{name[:-5]},{synset} 1 2 3 4 " for name, (synset, _) in val_images().items()]
    write(root, {"LOC_val_solution.csv": "\n".join(["ImageId,PredictionString", *rows[::-1]]).encode()})
    names = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\nn02012849 crane\n"
    write(root, {"LOC_synset_mapping.txt": names.encode()})


def labels_list(root: Path) -> None:
    text = "".join(f"{synset}\n" for synset, _ in val_images().values())
    write(root, {"imagenet_2012_validation_synset_labels.txt": text.encode()})


LAYOUTS = {
    "folders, sorted": (train_folders, val_sorted),
    "folders, flat, kit": (train_folders, val_flat, kit_folder),
    "folders, flat, packed kit": (train_folders, val_flat, kit_archive),
    "folders, flat, list of synsets": (train_folders, val_flat, labels_list),
    "tars, archive": (train_tars, val_archive, kit_folder),
    "archives": (train_archive, val_archive, kit_archive),
    "kaggle": (kaggle,),
}
