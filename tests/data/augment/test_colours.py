"""RandAugment, colour jitter and random erasing beside torchvision's own classes."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from expflow.data.augment import colours, sample_random
from expflow.data.augment.specs import ColorJitter, RandAugment, TrainTransform
from tests.data.photographs import photograph

NAMES = {
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "color": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "identity": "Identity",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}


@pytest.fixture(scope="module")
def image():
    return torch.from_numpy(np.array(photograph(size=(64, 48)))).permute(2, 0, 1)


def test_there_are_the_fourteen_operations():
    assert set(colours.SIGNED | colours.UNSIGNED) == set(NAMES)


@pytest.mark.parametrize("magnitude", [0, 9, 15, 30])
@pytest.mark.parametrize("name", NAMES)
def test_each_operation_is_torchvisions(image, monkeypatch, name, magnitude):
    theirs = v2.RandAugment(num_ops=1, magnitude=magnitude)
    space = {NAMES[name]: theirs._AUGMENTATION_SPACE[NAMES[name]]}
    monkeypatch.setattr(theirs, "_AUGMENTATION_SPACE", space, raising=False)
    signs = (1, -1) if name in colours.SIGNED else (1,)
    outcomes = {sign: (colours.SIGNED | colours.UNSIGNED)[name](image, sign * magnitude / 30) for sign in signs}
    torch.manual_seed(0)
    for _ in range(4):
        wanted = theirs(image)
        assert any((outcome.int() - wanted.int()).abs().max() <= 1 for outcome in outcomes.values())


def test_operations_are_drawn_evenly_and_with_both_signs(image, monkeypatch):
    seen = []
    spied = tuple((name, lambda image, strength, name=name: seen.append((name, strength)) or image) for name in NAMES)
    monkeypatch.setattr(colours, "_OPERATIONS", spied)
    for id in range(3000):
        colours.rand_augment(image, RandAugment(operations=2, magnitude=15), sample_random.sample_key(0, 0, id))
    counts = [sum(name == drawn for drawn, _ in seen) for name in NAMES]
    assert len(seen) == 6000
    assert min(counts) > 350
    assert max(counts) < 510
    negative = sum(strength < 0 for name, strength in seen if name in colours.SIGNED)
    signed = sum(name in colours.SIGNED for name, _ in seen)
    assert 0.46 < negative / signed < 0.54
    assert all(strength == 0.5 for name, strength in seen if name in colours.UNSIGNED)


def test_jitter_stays_in_its_ranges(image):
    spec = ColorJitter(brightness=0.5)
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    values = [int(colours.color_jitter(grey, spec, sample_random.sample_key(0, 0, id))[0, 0, 0]) for id in range(300)]
    assert min(values) >= 50
    assert max(values) <= 150
    assert max(values) - min(values) > 90
    assert torch.equal(colours.color_jitter(image, ColorJitter(), sample_random.sample_key(0, 0, 1)), image)


def test_erasing_makes_one_rectangle_the_mean(image):
    erase = colours.ColourAugmentation(TrainTransform(random_erasing=1.0), (0.2, 0.4, 0.6), 3)
    before, shares = image.clone(), []
    for id in range(200):
        erased = erase(image, sample_random.sample_key(0, 0, id))
        changed = (erased != image).any(0) | (erased == torch.tensor([51, 102, 153])[:, None, None]).all(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        inside = erased[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (inside == torch.tensor([51, 102, 153])[:, None, None]).all()
        shares.append(inside[0].numel() / image[0].numel())
    assert torch.equal(before, image)
    assert min(shares) > 0.015
    assert max(shares) < 0.35


def test_grey_images_go_through_everything():
    train = TrainTransform(
        rand_augment=RandAugment(operations=14), color_jitter=ColorJitter(hue=0.2, saturation=0.3), random_erasing=1.0
    )
    change = colours.ColourAugmentation(train, (0.5,), 1)
    for id in range(20):
        assert change(torch.full((1, 9, 9), 77, dtype=torch.uint8), sample_random.sample_key(0, 0, id)).shape == (
            1,
            9,
            9,
        )
