"""From stored samples to those of a batch: decode, take a part of the image, change it, write it into its slot.

What is taken is drawn once for a sample, and every other field that has a height and a width follows
(:mod:`expflow.data.kinds`). Colours and erasing change the image alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.augment import sample_random
from expflow.data.augment.colours import ColourAugmentation
from expflow.data.augment.geometry import (
    CropView,
    SampleGeometry,
    decode_reduction,
    evaluation_view,
    random_crop_view,
)
from expflow.data.augment.pixels import copy_into_slot, pad_and_crop, pad_and_crop_all, padded_to, resized
from expflow.data.augment.sizes import Size, image_sizes, stored_size
from expflow.data.augment.specs import AugmentedSourceSpec, RandomResizedCrop, TrainTransform
from expflow.data.dataspec import VOID, DataSpec
from expflow.data.decode.errors import Undecodable
from expflow.data.decode.lazy_image import open_image
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds import decode, image_first, kind_of
from expflow.data.kinds.boxes import visible_objects
from expflow.errors import UserError

Arrays = dict[str, NDArray[Any]]
"""One array per field; the first axis counts samples."""


class AugmentationPipeline:
    """Turns stored samples into those of a batch. Holds nothing that changes: threads may share it.

    ``shapes`` maps each field of a batch to its shape for one sample and its dtype; an image is (channels,
    height, width) uint8. ``changes`` is false where samples of one size stay as they are stored.

    Args:
        fields: The extension of each field in the shards.
        dataspec: How the fields are stored.
        transform: The source's spec; one without transforms leaves images as they are stored.
        training: Whether its ``train`` rather than its ``eval`` is followed.
        seed: What is random derives from it, the epoch and the sample's id alone.

    Raises:
        UserError: The samples would not fit into one batch, or objects have points that cannot be mirrored.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        dataspec: DataSpec,
        transform: object,
        *,
        training: bool,
        seed: int,
    ) -> None:
        spec = transform if isinstance(transform, AugmentedSourceSpec) else AugmentedSourceSpec(name="stored")
        self._fields, self._seed = image_first(fields, dataspec), seed
        self._train = spec.train if training else TrainTransform()
        self.shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            name: (field.shape, np.dtype(field.dtype)) for name, field in dataspec.fields.items()
        }
        self._image = "image" in self._fields
        self._specs = dataspec.fields
        self._boxes = next((name for name in self._fields if dataspec.fields[name].kind == "boxes"), None)
        self._point_order = () if dataspec.points is None else dataspec.points.mirrored
        if dataspec.points is not None and self._train.flip:
            _check_sides(dataspec.points)
        self._min_visible = self._train.min_visible if training else 0.0
        spatial = (name for name in self._fields if kind_of(dataspec.fields[name]).spatial)
        self._following = {name: kind_of(dataspec.fields[name]) for name in spatial if name != "image"}
        if self._image:
            image = dataspec.fields["image"]
            self._channels, self._fixed = image.shape[0], stored_size(image)
            self._sizes = image_sizes(self._fixed, spec)
            self._out: Size = self._sizes.train if training else self._sizes.eval
            for name in ("image", *self._following):
                field = dataspec.fields[name]
                self.shapes[name] = (kind_of(field).batch_shape(field, self._out), np.dtype(field.dtype))
            self._colours = ColourAugmentation(self._train, dataspec.mean, self._channels)
        self.changes = self._image and (self._fixed != self._out or self._random)

    @property
    def _crop(self) -> RandomResizedCrop | None:
        crop = self._train.random_resized_crop
        return crop if crop is not None and crop.probability > 0 else None

    @property
    def _random(self) -> bool:
        train = self._train
        return bool(self._crop or train.pad_and_crop or train.flip or self._colours.any)

    def sample(self, values: Mapping[str, memoryview], epoch: int, id: int, out: Mapping[str, NDArray[Any]]) -> None:
        """Decode and change one sample.

        Args:
            values: The encoded bytes of each field.
            epoch: The epoch's number, from 0.
            id: The sample's position in its split.
            out: Where each field is written. An image's memory may lie as (channels, height, width) or, which is
                faster, as (height, width, channels).

        Raises:
            Undecodable: A ValueError; the bytes of an image are not what the data spec says.
            ValueError: Another field is not what the data spec says.
        """
        key = sample_random.sample_key(self._seed, epoch, id)
        size: Size = (0, 0)
        members: dict[str, Any] = {}  # several fields may come from one
        for name, extension in self._fields.items():
            if name == "image" and self._image:
                size, geometry = self._decode_image(values[name], key, out[name])
                continue
            if extension not in members:
                members[extension] = decode(extension, values[name])
            field, (shape, dtype) = self._specs[name], self.shapes[name]
            value = kind_of(field).of_member(members[extension], field)
            if name in self._following:
                if self._following[name].map and value.shape != size:
                    raise Undecodable(f"{name}: expected the image's {size[1]} x {size[0]} pixels, found {value.shape}")
                if name == self._boxes:
                    geometry = self._with_objects(geometry, value)
                value = self._following[name].taken(value, geometry)
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(f"{name}: expected {dtype} {shape}, found {value.dtype} {value.shape}")
            out[name][...] = value

    def _with_objects(self, geometry: SampleGeometry, boxes: NDArray[Any]) -> SampleGeometry:
        """``geometry`` with what it leaves of a sample's boxes."""
        return replace(geometry, objects=visible_objects(boxes, geometry, self._min_visible))

    def _decode_image(self, content: memoryview, key: int, slot: NDArray[Any]) -> tuple[Size, SampleGeometry]:
        """Decode and change an image; returns its stored size and what was taken of it."""
        image = open_image(content, self._channels)
        if self._fixed not in (None, image.size):
            height, width = image.size
            raise Undecodable(f"image: expected {self._fixed[1]} x {self._fixed[0]} pixels, found {width} x {height}")
        geometry = self._geometry(image.size, key)
        box = geometry.view.box
        region = (box.top, box.left, box.height, box.width)
        reduction = decode_reduction(region[2:], geometry.view.resized)
        self._finish(image.region(region, reduction), geometry, key, slot)
        return image.size, geometry

    def _geometry(self, size: Size, key: int) -> SampleGeometry:
        pad, pad_at = self._train.pad_and_crop, (0, 0)
        if pad:
            top, left = (sample_random.integer(key, sample_random.PAD + axis, 2 * pad + 1) for axis in (0, 1))
            pad_at = (top, left)
        mirrored = sample_random.uniform(key, sample_random.FLIP) < self._train.flip
        return SampleGeometry(self._view(size, key), pad, pad_at, mirrored, point_order=self._point_order)

    def _view(self, size: Size, key: int) -> CropView:
        crop = self._crop
        if crop is not None and sample_random.uniform(key, sample_random.CROP_OR_NOT) < crop.probability:
            return random_crop_view(size, self._out, crop, key)
        return evaluation_view(size, self._sizes)

    def _finish(self, region: NDArray[np.uint8], geometry: SampleGeometry, key: int, slot: NDArray[Any]) -> None:
        """What comes after decoding: ``region`` is the view's box of the image, perhaps smaller already."""
        view = geometry.view
        image = resized(region, view.resized)
        if min(view.at) < 0:
            image = padded_to(image, view.at, view.out)
        elif view.out != view.resized:
            image = image[:, view.at[0] : view.at[0] + view.out[0], view.at[1] : view.at[1] + view.out[1]]
        if geometry.pad:
            image = pad_and_crop(image, geometry.pad, *geometry.pad_at)
        if geometry.mirrored:
            image = image.flip(-1)
        if self._colours.any:
            image = self._colours(image, key)
        copy_into_slot(image, slot)

    def batch(self, arrays: Mapping[str, NDArray[Any]], epoch: int, ids: NDArray[np.int64]) -> Arrays:
        """Change samples that are decoded already, each as :meth:`sample` would.

        Args:
            arrays: The fields, (n, …) each; images are (n, channels, height, width) uint8 and of their stored size.
            epoch: The epoch's number, from 0.
            ids: The samples' positions in their split, (n,).
        """
        if not self.changes:
            return dict(arrays)
        only_maps = all(kind.map for kind in self._following.values()) and self._boxes is None
        if self._crop is None and self._fixed == self._out and not self._colours.any and only_maps:
            return {**arrays, **self._pad_crop_flip_all(arrays, epoch, ids)}
        changed = {
            name: np.empty((len(ids), *shape), dtype)
            for name, (shape, dtype) in self.shapes.items()
            if name == "image" or name in self._following
        }
        for slot, sample in enumerate(ids.tolist()):
            pixels = arrays["image"][slot].transpose(1, 2, 0)
            key = sample_random.sample_key(self._seed, epoch, sample)
            geometry = self._geometry((pixels.shape[0], pixels.shape[1]), key)
            box = geometry.view.box
            region = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
            self._finish(region, geometry, key, changed["image"][slot])
            if self._boxes is not None:
                geometry = self._with_objects(geometry, arrays[self._boxes][slot])
            for name, kind in self._following.items():
                changed[name][slot] = kind.taken(arrays[name][slot], geometry)
        return {**arrays, **changed}

    def _pad_crop_flip_all(
        self, arrays: Mapping[str, NDArray[Any]], epoch: int, ids: NDArray[np.int64]
    ) -> dict[str, NDArray[np.uint8]]:
        """Pad and crop, and flip, for all samples at once."""
        keys, pad = sample_random.sample_keys(self._seed, epoch, ids), self._train.pad_and_crop
        if pad:
            tops, lefts = (sample_random.integers(keys, sample_random.PAD + axis, 2 * pad + 1) for axis in (0, 1))
        mirrored = sample_random.uniforms(keys, sample_random.FLIP) < self._train.flip
        changed = {}
        for name in ("image", *self._following):
            pixels = arrays[name]
            if pad:
                planes = pixels if pixels.ndim == 4 else pixels[:, None]
                fill = 0 if name == "image" else VOID
                pixels = pad_and_crop_all(planes, pad, tops, lefts, fill).reshape(pixels.shape)
            if self._train.flip:
                chosen = mirrored.reshape(-1, *[1] * (pixels.ndim - 1))
                pixels = np.where(chosen, pixels[..., ::-1], pixels)
            changed[name] = pixels
        return changed


def _check_sides(layout: KeypointLayout) -> None:
    """Refuse to mirror objects of which a point is of one side alone. Raises UserError."""
    if layout.one_sided:
        names = ", ".join(layout.one_sided)
        raise UserError(
            f"data.train.flip: in a mirrored image the points {names} are of the other side, and there is no point"
            " there that they could be; leave flip out, or name pairs of points (mirrored_points)"
        )
