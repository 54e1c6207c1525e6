"""From stored samples to those of a batch: decode, take the part that is wanted, change it, put it into its slot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.augment import draws
from expflow.data.augment.colours import Colours
from expflow.data.augment.geometry import View, random_view, reduction, whole_view
from expflow.data.augment.pixels import pad_and_crop, pad_and_crop_all, place, resized
from expflow.data.augment.sizes import Size, sizes, stored_size
from expflow.data.augment.specs import Augmented, RandomResizedCrop, TrainTransform
from expflow.data.codecs import IMAGES, decode
from expflow.data.dataspec import DataSpec
from expflow.data.decode.errors import Undecodable
from expflow.data.decode.opened import open_image

Arrays = dict[str, NDArray[Any]]
"""One array per field; the first axis counts samples."""

GEOMETRY = "image_geometry"
"""Field that says where in its stored image a sample was seen: (top, left, height, width) in pixels, and 1 if it was
then mirrored; float32. For masks and boxes to follow."""


class Pipeline:
    """See :func:`expflow.data.augment.pipeline_for`. Holds nothing that changes: threads may share it.

    ``shapes`` maps each field of a batch to its shape for one sample and its dtype; an image is (channels,
    height, width) uint8. ``changes`` is false where samples of one size stay as they are stored.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        dataspec: DataSpec,
        transform: object,
        *,
        training: bool,
        seed: int,
        geometry: bool = False,
    ) -> None:
        spec = transform if isinstance(transform, Augmented) else Augmented(name="stored")
        self._fields, self._stored, self._seed = dict(fields), dict(dataspec.fields), seed
        self._train = spec.train if training else TrainTransform()
        self.shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            name: (each.shape, np.dtype(each.dtype)) for name, each in dataspec.fields.items()
        }
        self._image = "image" in dataspec.fields and self._fields.get("image") in IMAGES
        self._geometry = geometry and self._image
        if self._image:
            image = dataspec.fields["image"]
            self._channels, self._fixed = image.shape[0], stored_size(image)
            self._sizes = sizes(self._fixed, spec)
            self._out: Size = self._sizes.train if training else self._sizes.eval
            self.shapes["image"] = ((self._channels, *self._out), np.dtype(np.uint8))
            self._colours = Colours(self._train, dataspec.mean, self._channels)
        if self._geometry:
            self.shapes[GEOMETRY] = ((5,), np.dtype(np.float32))
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
        """Decode and change the sample ``id``: ``values`` holds each field's bytes, ``out`` a slot for each result.

        Slots of images may lie in memory as (channels, height, width) or, which is faster, (height, width, channels).
        Raises Undecodable, a ValueError, where the bytes are not what the data spec says.
        """
        key = draws.key_of(self._seed, epoch, id)
        for name, extension in self._fields.items():
            if name == "image" and self._image:
                self._decoded(values[name], key, out)
                continue
            value, (shape, dtype) = decode(extension, values[name]), self.shapes[name]
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(f"{name}: expected {dtype} {shape}, found {value.dtype} {value.shape}")
            out[name][...] = value

    def _decoded(self, content: memoryview, key: int, out: Mapping[str, NDArray[Any]]) -> None:
        opened = open_image(content, self._channels)
        if self._fixed not in (None, opened.size):
            height, width = opened.size
            raise Undecodable(f"image: expected {self._fixed[1]} x {self._fixed[0]} pixels, found {width} x {height}")
        view = self._view(opened.size, key)
        box = view.box
        part = (box.top, box.left, box.height, box.width)
        self._finish(opened.part(part, reduction(part[2:], view.resized)), view, key, out)

    def _view(self, size: Size, key: int) -> View:
        crop = self._crop
        if crop is not None and draws.uniform(key, draws.CROP_OR_NOT) < crop.probability:
            return random_view(size, self._out, crop, key)
        return whole_view(size, self._sizes)

    def _finish(self, part: NDArray[np.uint8], view: View, key: int, out: Mapping[str, NDArray[Any]]) -> None:
        """What comes after decoding: ``part`` is ``view.box`` of the image, perhaps smaller already."""
        image = resized(part, view.resized)
        if view.out != view.resized:
            image = image[:, view.at[0] : view.at[0] + view.out[0], view.at[1] : view.at[1] + view.out[1]]
        pad, top, left = self._train.pad_and_crop, 0, 0
        if pad:
            top, left = (draws.whole(key, draws.PAD + each, 2 * pad + 1) for each in (0, 1))
            image = pad_and_crop(image, pad, top, left)
        flip = draws.uniform(key, draws.FLIP) < self._train.flip
        if flip:
            image = image.flip(-1)
        if self._colours.any:
            image = self._colours(image, key)
        place(image, out["image"])
        if self._geometry:
            out[GEOMETRY][...] = (*view.moved(top - pad, left - pad).source(), flip)

    def batch(self, arrays: Mapping[str, NDArray[Any]], epoch: int, ids: NDArray[np.int64]) -> Arrays:
        """Samples that are decoded, (n, …) for each field, changed as :meth:`sample` would change each of ``ids``.

        Images are (n, channels, height, width) uint8 and of their stored size.
        """
        if not self.changes and not self._geometry:
            return dict(arrays)
        if self._crop is None and self._fixed == self._out and not self._colours.any and not self._geometry:
            return {**arrays, "image": self._moved(arrays["image"], epoch, ids)}
        changed = {name: np.empty((len(ids), *self.shapes[name][0]), self.shapes[name][1]) for name in self._made}
        for slot, sample in enumerate(ids.tolist()):
            pixels = arrays["image"][slot].transpose(1, 2, 0)
            key = draws.key_of(self._seed, epoch, sample)
            view = self._view((pixels.shape[0], pixels.shape[1]), key)
            box = view.box
            part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
            self._finish(part, view, key, {name: values[slot] for name, values in changed.items()})
        return {**arrays, **changed}

    @property
    def _made(self) -> tuple[str, ...]:
        return ("image", GEOMETRY) if self._geometry else ("image",)

    def _moved(self, images: NDArray[np.uint8], epoch: int, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pad and crop, and flip, for all samples at once."""
        keys, pad = draws.keys_of(self._seed, epoch, ids), self._train.pad_and_crop
        if pad:
            tops, lefts = (draws.wholes(keys, draws.PAD + each, 2 * pad + 1) for each in (0, 1))
            images = pad_and_crop_all(images, pad, tops, lefts)
        flip = draws.uniforms(keys, draws.FLIP) < self._train.flip
        return np.where(flip[:, None, None, None], images[..., ::-1], images) if self._train.flip else images
