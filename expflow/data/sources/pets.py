"""Oxford-IIIT Pet in the layout of its two archives."""

from __future__ import annotations

from pathlib import Path

from expflow.data.dataspec import VOID
from expflow.data.labelled_specs import PetsSpec
from expflow.data.source_spec import Origin
from expflow.data.sources.base import SampleRef, SampleSource, draw_splits, file_fields, local_folder, with_mask
from expflow.data.sources.image_files import ImageFileReader
from expflow.data.sources.mask_folder import MaskedImageReader
from expflow.errors import DataMissing
from expflow.files import read_bounded

TRIMAP = {1: 1, 2: 0, 3: VOID}
"""Values of the published masks (pet, background, outline) -> classes here."""

LARGEST_LIST = 16 * 2**20
"""Bytes of a list that are read."""


def open_pets(spec: PetsSpec, origin: Origin) -> SampleSource:
    """Open the photographs of pets with masks; val is drawn from trainval, and test is the published one.

    Args:
        spec: the recipe's source.
        origin: the folder with ``images`` and ``annotations``.

    Raises:
        DataMissing: lists, photographs or masks are not there.
    """
    root = local_folder(origin, spec.name, spec.where)
    own, test = (_listed(root, part, spec.where) for part in ("trainval", "test"))
    read_image = ImageFileReader(root, 3, spec.max_side, spec.quality, restarts=spec.restart_markers)
    return SampleSource(
        classes=("background", "pet"),
        splits=draw_splits(own, {"val": spec.val_fraction}, spec.split_seed, {"test": test}),
        read=MaskedImageReader(root, read_image, 2, None, tuple(TRIMAP.items())),
        portable=True,
        **with_mask(file_fields(3)),
    )


def _listed(root: Path, part: str, where: str) -> list[SampleRef]:
    path = root / "annotations" / f"{part}.txt"
    if not path.is_file():
        raise DataMissing(f"{path} is not there; {where}")
    lines = read_bounded(path, LARGEST_LIST).decode("ascii").splitlines()
    return [_sample(root, line.split()[0], where) for line in lines if line.strip() and not line.startswith("#")]


def _sample(root: Path, name: str, where: str) -> SampleRef:
    image, mask = f"images/{name}.jpg", f"annotations/trimaps/{name}.png"
    for path in (image, mask):
        if not (root / path).is_file():
            raise DataMissing(f"{root / path} is not there; {where}")
    of_image, of_mask = (root / image).stat(), (root / mask).stat()
    beside = ((mask, of_mask.st_size, of_mask.st_mtime_ns),)
    return SampleRef(image, None, of_image.st_size + of_mask.st_size, of_image.st_mtime_ns, beside=beside)
