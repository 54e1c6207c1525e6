"""Distances between images: against scikit-image, and against numbers worked by hand."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from expflow.tasks.image_metrics import (
    LARGEST_PSNR,
    gradient_energy,
    l1,
    l2,
    psnr,
    reconstruction_metrics,
    reconstruction_sums,
    ssim,
)


def pairs(*shape: int) -> tuple[Tensor, Tensor]:
    """Smooth images and noisy ones, from 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(shape, generator=generator, dtype=torch.float64).cumsum(-1)
    target = target / target.amax((-1, -2), keepdim=True)
    return (target + 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(0, 1), target


def test_by_hand() -> None:
    image, target = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]]), torch.tensor([[[[0.0, 0.5], [0.5, 0.0]]]])
    assert l1(image, target).tolist() == [0.25]
    assert l2(image, target).tolist() == [0.125]
    assert psnr(image, target).item() == pytest.approx(9.0309, abs=1e-4)
    assert gradient_energy(image).tolist() == [0.25 + 0.5]
    assert psnr(target, target).tolist() == [LARGEST_PSNR]


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 16, 21)])
def test_psnr_and_ssim_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    images, targets = pairs(*shape)
    for image, target, ratio, alike in zip(images, targets, psnr(images, targets), ssim(images, targets), strict=True):
        assert ratio.item() == pytest.approx(peak_signal_noise_ratio(target.numpy(), image.numpy(), data_range=1))
        expected = structural_similarity(
            target.numpy(),
            image.numpy(),
            data_range=1,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert alike.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("side", [2, 4, 8])
def test_of_images_smaller_than_the_window_alike_ones_are_alike(side: int) -> None:
    image, target = pairs(2, 1, side, side)
    assert torch.allclose(ssim(target, target), torch.ones(2, dtype=torch.float64))
    assert (ssim(image, target) < 1).all()


def test_padding_counts_for_nothing_and_blur_is_less_sharp() -> None:
    _, target = pairs(4, 1, 12, 12)
    blurred = torch.nn.functional.avg_pool2d(target, 3, 1, 1)
    valid = torch.tensor([True, True, True, False])
    whole = reconstruction_sums(blurred, target, valid)
    parts = [reconstruction_sums(blurred[at : at + 1], target[at : at + 1], valid[at : at + 1]) for at in range(4)]
    assert torch.allclose(whole, torch.stack(parts).sum(0))
    metrics = reconstruction_metrics(whole, valid.sum())
    assert metrics["sharpness"] < 1
    assert metrics["l1"].item() == pytest.approx(l1(blurred[:3], target[:3]).mean().item())
