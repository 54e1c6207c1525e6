"""Scenes of one stamp each: Tux Paint's stamps with their alpha masks on crops of real photographs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.augment import sample_random
from expflow.data.dataspec import VOID
from expflow.data.labelled_specs import StampsSpec
from expflow.data.source_spec import Origin
from expflow.data.sources.base import BadSample, SampleRef, SampleSource, draw_splits, image_fields, with_mask
from expflow.data.sources.stamp_files import motif_of, read_stamps, theme_of
from expflow.errors import DataInvalid, PackageMissing

STAMP_SIDES = (0.5, 0.9)
"""Smallest and largest longer side of a stamp, as shares of the scene's."""

FADING, SOLID = 0.25, 0.75
"""A pixel that a stamp covers more than SOLID is its, one less than FADING the background's, any other void."""

NOTE = (
    "these scenes are composed: stamps of Tux Paint on crops of scikit-learn's two photographs; scores on them say"
    " nothing about photographs"
)


@dataclass(frozen=True)
class StampComposer:
    """Composes a scene of each stamp.

    Attributes:
        spec: the recipe's source.
        stamps: name to PNG.
        classes: theme to its class.
        photographs: (height, width, 3) each.
    """

    spec: StampsSpec
    stamps: Mapping[str, bytes]
    classes: Mapping[str, int]
    photographs: Sequence[NDArray[np.uint8]]

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Compose one scene. Raises BadSample."""
        side, key = self.spec.side, sample_random.sample_key(self.spec.scene_seed, 0, item.offset)
        photograph = self.photographs[sample_random.integer(key, 0, len(self.photographs))]
        y, x = (sample_random.integer(key, 1 + axis, photograph.shape[axis] - side + 1) for axis in (0, 1))
        scene_hwc = photograph[y : y + side, x : x + side].astype(np.float32)
        mask_hw = np.zeros((side, side), np.uint8)
        stamp_hwc = self._stamp(item.name, round(sample_random.uniform_between(key, 3, *STAMP_SIDES) * side))
        high, wide = stamp_hwc.shape[:2]
        top, left = (sample_random.integer(key, 4 + axis, side - n + 1) for axis, n in ((0, high), (1, wide)))
        part, of_mask = (whole[top : top + high, left : left + wide] for whole in (scene_hwc, mask_hw))
        cover_hw = stamp_hwc[..., 3] / 255
        part += cover_hw[..., None] * (stamp_hwc[..., :3] - part)
        of_mask[cover_hw > FADING] = VOID
        of_mask[cover_hw > SOLID] = self.classes[theme_of(item.name)]
        return {"image": scene_hwc.round().clip(0, 255).astype(np.uint8), "mask": mask_hw}

    def _stamp(self, name: str, longer: int) -> NDArray[np.float32]:
        """(height, width, 4) of a stamp whose longer side has so many pixels."""
        try:
            with Image.open(io.BytesIO(self.stamps[name]), formats=("PNG",)) as image:
                whole = image.convert("RGBA")
        except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
            raise BadSample(str(error) or type(error).__name__) from error
        scale = longer / max(whole.size)
        size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
        return np.asarray(whole.resize(size, Image.Resampling.BOX), np.float32)


def _is_cut_out(content: bytes) -> bool:
    """Whether a stamp has pixels that cover nothing, and so a mask."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if "A" not in image.getbands() and "transparency" not in image.info:
                return False
            return bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255 * FADING)
    except Exception:  # noqa: BLE001 (a stamp that cannot be read is named when its scene is composed)
        return True


def themed_samples(names: Iterable[str]) -> tuple[list[str], list[SampleRef]]:
    """The themes of stamps, and each stamp as a sample of its theme in the group of its motif.

    Args:
        names: the stamps' files, in the order in which samples are drawn.
    """
    stamps = list(names)
    themes = sorted({theme_of(name) for name in stamps})
    return themes, [
        SampleRef(name, themes.index(theme_of(name)), offset=number, group=motif_of(name))
        for number, name in enumerate(stamps)
    ]


def open_stamps(spec: StampsSpec, origin: Origin) -> SampleSource:
    """Scenes of stamps that have a mask; those of one motif are in one split.

    Args:
        spec: the recipe's source.
        origin: a folder with the package's file or with its files.

    Raises:
        PackageMissing: scikit-learn is not installed.
        DataMissing: there are no stamps.
        DataInvalid: the package's file cannot be read, or a split would be empty.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise PackageMissing("stamps need scikit-learn for their backgrounds: pip install scikit-learn") from error
    stamps = {name: png for name, png in read_stamps(Path(str(origin))).items() if _is_cut_out(png)}
    if not stamps:
        raise DataInvalid(f"{origin}: no stamp in it has a transparent background, and so a mask")
    themes, items = themed_samples(stamps)
    fractions = {"val": spec.val_fraction, "test": spec.test_fraction}
    return SampleSource(
        classes=("background", *(themes if spec.distinct else ("stamp",))),
        splits=draw_splits(items, fractions, spec.split_seed),
        read=StampComposer(
            spec,
            stamps,
            {theme: 1 + number if spec.distinct else 1 for number, theme in enumerate(themes)},
            [np.asarray(photograph, np.uint8) for photograph in load_sample_images().images],
        ),
        notes=(NOTE,),
        **with_mask(image_fields(3, spec.side, spec.side)),
    )
