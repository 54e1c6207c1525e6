"""What every loss that has a name must do, whoever wrote it."""

import pytest
import torch

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import build
from expflow.registry import LOSSES

BATCH, CLASSES = 5, 3
DATA = DataSpec({}, ("cat", "dog", "ship"))
WEIGHTS = (2.0, 0.5, 1.0)

OF_AREAS = {"dice": [{"cross_entropy": 1.0}, {"focal": 0.5}]}
"""Losses that compare areas: they have no value for a sample without pixels."""

VARIANTS = {
    # name -> arguments with which it is built, beside those of its defaults
    "bce": [{"label_smoothing": 0.2}],
    "cross_entropy": [{"label_smoothing": 0.1}, {"class_weights": WEIGHTS}],
    "focal": [{"gamma": 0.5}, {"class_weights": WEIGHTS}],
    "hinge": [{"margin": 0.5}],
    "l1": [],
    "nll": [{"class_weights": WEIGHTS}],
    "smooth_l1": [{"beta": 0.5}],
    "squared": [],
}
TAKES_LOG_PROBABILITIES = ("nll",)
CASES = [(name, arguments) for name, variants in VARIANTS.items() for arguments in ({}, *variants)]

LABELS = torch.tensor([0, 1, 2, 1, 0])
SHARES = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])


def test_every_loss_has_a_case():
    assert {*VARIANTS, *OF_AREAS} == set(LOSSES.names())


def loss(name, arguments):
    return build(LOSSES.spec(name)(name=name, **arguments), DATA)


def outputs(name, batch=BATCH, seed=0):
    """What a network would give to the loss of this name; a leaf whose gradient can be had."""
    scores_bc = torch.randn(batch, CLASSES, generator=torch.Generator().manual_seed(seed))
    scores_bc = scores_bc.log_softmax(1) if name in TAKES_LOG_PROBABILITIES else scores_bc
    return scores_bc.requires_grad_()


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("target", [LABELS, SHARES], ids=["labels", "shares"])
def test_it_gives_one_finite_value_per_sample_and_a_finite_gradient(name, arguments, target):
    scores_bc = outputs(name)
    values_b = loss(name, arguments)(scores_bc, target)
    assert values_b.shape == (BATCH,)
    assert values_b.dtype == scores_bc.dtype
    assert values_b.isfinite().all()
    values_b.sum().backward()
    assert scores_bc.grad.isfinite().all()
    assert (scores_bc.grad.abs().sum(1) > 0).any()


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("target", [LABELS, SHARES], ids=["labels", "shares"])
def test_its_gradient_is_that_of_its_values(name, arguments, target):
    scores_bc = outputs(name).detach().double().requires_grad_()
    built = loss(name, arguments).double()
    assert torch.autograd.gradcheck(lambda x: built(x, target.double() if target.ndim == 2 else target), [scores_bc])


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("target", [LABELS, SHARES], ids=["labels", "shares"])
def test_padding_can_be_masked(name, arguments, target):
    """A sample's value depends on no other sample, and one that is masked has no gradient."""
    built, scores_bc = loss(name, arguments), outputs(name)
    padded_bc, valid = torch.cat([scores_bc.detach()[:3], outputs(name, 2, seed=1).detach()]), torch.arange(BATCH) < 3
    padded_bc.requires_grad_()
    values_b = built(padded_bc, torch.cat([target[:3], target[:2]]))
    assert torch.allclose(values_b[:3], built(scores_bc[:3], target[:3]), atol=1e-6)
    (values_b * valid).sum().backward()
    assert (padded_bc.grad[3:] == 0).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_labels_are_shares_of_one_class(name):
    built, scores_bc = loss(name, {}), outputs(name)
    one_hot_bc = torch.nn.functional.one_hot(LABELS, CLASSES).float()
    assert torch.allclose(built(scores_bc, LABELS), built(scores_bc, one_hot_bc), atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "target",
    [LABELS[:1], LABELS[:-1], SHARES[:1], SHARES[:-1], SHARES[:, :1], SHARES[:, :-1], torch.full((BATCH,), CLASSES)],
    ids=["one label", "a label less", "shares of one", "shares less", "a column", "a class less", "no such class"],
)
def test_targets_of_other_shapes_are_refused(name, target):
    with pytest.raises((UserError, ValueError, RuntimeError, IndexError)):
        loss(name, {})(outputs(name), target)


VOID = -100
MAPS = torch.tensor([[[0, 1, 2], [VOID, 1, 1]], [[2, 2, 2], [0, 0, VOID]], [[VOID] * 3, [VOID] * 3]])
"""(b, h, w) labels of pixels; those of the last image are all void."""
OF_MAPS = [
    ("cross_entropy", {}),
    ("cross_entropy", {"class_weights": WEIGHTS}),
    ("focal", {}),
    ("focal", VARIANTS["focal"][1]),
]
OF_MAPS += [("dice", arguments) for arguments in ({}, *OF_AREAS["dice"])]


def scores_of_maps():
    scores = torch.randn(3, CLASSES, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return scores.requires_grad_()


@pytest.mark.parametrize(("name", "arguments"), OF_MAPS)
def test_of_maps_it_gives_a_value_for_each_pixel_or_image_and_void_has_no_part(name, arguments):
    scores_bchw, built = scores_of_maps(), loss(name, arguments).double()
    values = built(scores_bchw, MAPS)
    assert values.shape in ((3,), MAPS.shape)
    assert values.isfinite().all()
    values.sum().backward()
    assert (scores_bchw.grad.movedim(1, -1)[MAPS == VOID] == 0).all()
    assert (scores_bchw.grad.movedim(1, -1)[MAPS != VOID].abs().sum(1) > 0).all()
    assert torch.autograd.gradcheck(lambda x: built(x, MAPS), [scores_of_maps()])


def test_dice_is_that_of_the_formula_and_refuses_what_has_no_areas():
    scores = torch.tensor([[2.0, 0.0], [0.0, 2.0]]).log()[None, :, None]  # shares 1, 0 and 0, 1 of two pixels
    built = build(LOSSES.spec("dice")(name="dice"), DATA)
    right, wrong = torch.tensor([[[0, 1]]]), torch.tensor([[[1, 0]]])
    assert built(scores, right).item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 1))
    assert built(scores, wrong).item() == pytest.approx(1 - 1 / (2 + 1))
    with pytest.raises(UserError, match="for the task segmentation"):
        built(torch.zeros(5, 3), LABELS)


def test_focal_without_gamma_is_the_cross_entropy_and_less_for_what_is_right():
    scores = torch.tensor([[5.0, 4.0, 2.0]])
    values = [loss("focal", {"gamma": gamma})(scores, torch.tensor([0])).item() for gamma in (0.0, 2.0)]
    assert values == pytest.approx([0.34901, 0.030292], abs=1e-5)
