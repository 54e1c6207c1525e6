"""A user's folder of images and masks: what is read, and what is refused by the name of its file."""

import numpy as np
import pytest
from PIL import Image

from expflow.data.dataspec import VOID
from expflow.data.prepare.build import prepare
from expflow.data.shards.summary import summary_lines
from expflow.data.specs import FolderSpec
from expflow.data.streaming.loader import loader_for
from expflow.errors import DataInvalid
from tests.data.photographs import photograph

CLASSES = ("background", "leaf")


def folder_of(place, count=8, classes=2):
    """Photographs of their own sizes, each with a mask of random classes whose first row is void."""
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (place / name).mkdir(parents=True)
    for number in range(count):
        width, height = 30 + number, 20 + 2 * number
        photograph(size=(width, height)).save(place / "images" / f"p{number}.jpg")
        mask = generator.integers(0, classes, (height, width)).astype(np.uint8)
        mask[0] = VOID
        Image.fromarray(mask).save(place / "masks" / f"p{number}.png")
    return place


def built(place, tmp_path, **keys):
    spec = FolderSpec(name="folder", path=place, **{"classes": CLASSES, "val_fraction": 0.25, **keys})
    return spec, prepare(spec, cache=tmp_path / "cache")


def masks_of(spec, data):
    loaders = (loader_for(spec, data.root, split, seed=0, shuffle=False) for split in data.spec.samples)
    return np.concatenate([batch["mask"].numpy() for loader in loaders for batch in loader])


@pytest.mark.parametrize("stored", ["resized", "original"])
def test_images_of_their_own_sizes_come_with_their_masks(tmp_path, stored):
    spec, data = built(folder_of(tmp_path / "leaves"), tmp_path, stored=stored, image_size=16)
    assert data.spec.classes == CLASSES
    assert data.spec.samples == {"train": 5, "val": 2, "test": 1}
    assert data.spec.fields["mask"].kind == "mask"
    batch = next(iter(loader_for(spec, data.root, "train", seed=0, shuffle=False)))
    assert batch["image"].shape == (5, 3, 16, 16)
    assert batch["mask"].shape == (5, 16, 16)
    assert set(np.unique(batch["mask"])) <= {0, 1, VOID}
    text = "\n".join(summary_lines(data.root, data.manifest))
    assert "2 classes; pixels of the masks of train:" in text
    assert "void, which counts for nothing" in text


def test_splits_of_their_own_are_kept(tmp_path):
    for split in ("train", "val"):
        folder_of(tmp_path / "leaves" / split, count=4)
    _, data = built(tmp_path / "leaves", tmp_path, test_fraction=0.0)
    assert data.spec.samples == {"train": 4, "val": 4}


def test_shrunk_images_have_shrunk_masks(tmp_path):
    spec, data = built(folder_of(tmp_path / "leaves"), tmp_path, stored="original", max_side=18, image_size=8)
    assert len(masks_of(spec, data)) == 8


def test_a_palette_is_read_as_numbers(tmp_path):
    place = folder_of(tmp_path / "leaves")
    mask = Image.new("P", size_of(place)[::-1], 1)
    mask.putpalette([0, 0, 0, 200, 0, 0])
    mask.save(place / "masks" / "p3.png")
    spec, data = built(place, tmp_path, stored="original", image_size=8)
    assert [mask for mask in masks_of(spec, data) if (mask == 1).all()]


def size_of(place):
    with Image.open(place / "images" / "p3.jpg") as image:
        return image.height, image.width


def replaced(mask):
    """Put what ``mask`` makes of the image's size in the place of one mask."""
    return lambda place: Image.fromarray(mask(size_of(place))).save(place / "masks" / "p3.png")


def as_jpeg(place):
    (place / "masks" / "p3.png").unlink()
    Image.new("L", size_of(place)[::-1]).save(place / "masks" / "p3.jpg")


def as_stored(place):
    """Let EXIF turn an image whose mask is not turned."""
    with Image.open(place / "images" / "p3.jpg") as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(place / "images" / "p3.jpg", exif=exif)


THE_MASK = "images/p3.jpg: its mask masks/p3.png: "
REFUSED = {
    # what is done -> how, and what the error says
    "no class": (
        replaced(lambda size: np.full(size, 2, np.uint8)),
        (THE_MASK + "it holds 2, and data.classes names 2 classes, whose numbers are 0 to 1; 255 is void",),
    ),
    "another size": (
        replaced(lambda size: np.zeros((5, 7), np.uint8)),
        (THE_MASK + "it has 7 x 5 pixels, and the image 33 x 26",),
    ),
    "of the image as it is stored": (
        as_stored,
        (
            THE_MASK
            + "it has 33 x 26 pixels, and the image 26 x 33; a mask has its size, turned as the image's EXIF says",
        ),
    ),
    "colours": (
        replaced(lambda size: np.zeros((*size, 3), np.uint8)),
        (THE_MASK + "its mode is RGB; a mask is a PNG of one channel of 8 bits",),
    ),
    "transparency": (replaced(lambda size: np.zeros((*size, 4), np.uint8)), (THE_MASK + "its mode is RGBA",)),
    "sixteen bits": (replaced(lambda size: np.zeros(size, np.uint16)), (THE_MASK + "its mode is I;16",)),
    "no image": (lambda place: (place / "masks" / "p3.png").write_bytes(b"mask"), (THE_MASK + "no image",)),
    "a JPEG": (as_jpeg, ("images/p3.jpg: its mask masks/p3.jpg: it is a JPEG", "save it as PNG")),
    "no mask": (
        lambda place: (place / "masks" / "p3.png").unlink(),
        ("images without a mask: images/p3.jpg; add masks/NAME.png",),
    ),
    "two masks": (
        lambda place: (place / "masks" / "p3.bmp").write_bytes(b""),
        ("two files of one name in masks: masks/p3.bmp and masks/p3.png",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_mask_is_refused_by_the_name_of_its_file(case, tmp_path):
    change, texts = REFUSED[case]
    place = folder_of(tmp_path / "leaves")
    change(place)
    with pytest.raises(DataInvalid) as raised:
        built(place, tmp_path)
    assert all(text in str(raised.value) for text in texts), str(raised.value)


def test_masks_of_black_and_white_are_refused_because_white_is_void(tmp_path):
    with pytest.raises(DataInvalid, match="hold 0 and 255 alone, and 255 is void"):
        built(folder_of(tmp_path / "leaves", classes=1), tmp_path)


def test_classes_without_names_are_asked_for_with_what_to_write(tmp_path):
    with pytest.raises(DataInvalid) as raised:
        built(folder_of(tmp_path / "leaves", classes=3), tmp_path, classes=())
    assert "write data.classes: [background, NAME_OF_1, NAME_OF_2]" in str(raised.value)


def test_classes_of_masks_are_refused_where_folders_are_classes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        photograph(size=(8, 8)).save(tmp_path / "sorted" / name / "x.png")
    with pytest.raises(DataInvalid, match=r"data\.classes names the classes of masks"):
        built(tmp_path / "sorted", tmp_path)
