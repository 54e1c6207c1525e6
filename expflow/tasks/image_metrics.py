"""How far images lie from those they are meant to be. Images are (b, c, h, w) from 0 to 1; values are (b,)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_PSNR = 100.0
"""Decibels of an image that is reproduced exactly, whose ratio would be infinite."""

WINDOW, SIGMA = 11, 1.5
"""Side of the window of SSIM and the standard deviation of its Gaussian, in pixels."""

K1, K2 = 0.01, 0.03
"""Constants of SSIM, which keep its quotients from dividing by nearly nothing."""


def l1(image_bchw: Tensor, target_bchw: Tensor) -> Tensor:
    """Mean absolute difference of the pixels of each image: (b,).

    Args:
        image_bchw: Images.
        target_bchw: What they are meant to be.
    """
    return (image_bchw - target_bchw).abs().flatten(1).mean(1)


def l2(image_bchw: Tensor, target_bchw: Tensor) -> Tensor:
    """Mean squared difference of the pixels of each image: (b,).

    Args:
        image_bchw: Images.
        target_bchw: What they are meant to be.
    """
    return (image_bchw - target_bchw).square().flatten(1).mean(1)


def psnr(image_bchw: Tensor, target_bchw: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in decibels, -10 log10 of :func:`l2`: (b,).

    Args:
        image_bchw: Images.
        target_bchw: What they are meant to be.
    """
    return (-10 * l2(image_bchw, target_bchw).log10()).clamp(max=LARGEST_PSNR)


def ssim(image_bchw: Tensor, target_bchw: Tensor) -> Tensor:
    """Structural similarity of each image, mean over the positions of its window and the channels: (b,).

    Means, variances and covariance are taken under a Gaussian window of 11x11 pixels, or of as many as the image has.

    Args:
        image_bchw: Images.
        target_bchw: What they are meant to be.

    Source:
        Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", equation 13, with
        the window and the constants of section III-B.
    """
    mean_x, mean_y = _windowed(image_bchw), _windowed(target_bchw)
    var_x = _windowed(image_bchw.square()) - mean_x.square()
    var_y = _windowed(target_bchw.square()) - mean_y.square()
    covariance = _windowed(image_bchw * target_bchw) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + K1**2) / (mean_x.square() + mean_y.square() + K1**2)
    structure = (2 * covariance + K2**2) / (var_x + var_y + K2**2)
    return (likeness * structure).flatten(1).mean(1)


def _windowed(x_bchw: Tensor) -> Tensor:
    """Means under the Gaussian at every place where the whole window fits."""
    for dim in (2, 3):
        side = min(WINDOW, x_bchw.shape[dim] - (x_bchw.shape[dim] + 1) % 2)  # odd, and no larger than the image
        places = torch.arange(side, device=x_bchw.device, dtype=x_bchw.dtype) - side // 2
        weights = (-places.square() / (2 * SIGMA**2)).exp()
        shape = (1, 1, side, 1) if dim == 2 else (1, 1, 1, side)
        kernel = (weights / weights.sum()).view(shape).expand(x_bchw.shape[1], *[-1] * 3)
        x_bchw = functional.conv2d(x_bchw, kernel, groups=x_bchw.shape[1])
    return x_bchw


def gradient_energy(image_bchw: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of each image: (b,). Blurred images have less of it.

    Args:
        image_bchw: Images of at least 2x2 pixels.
    """
    down, right = image_bchw.diff(dim=2), image_bchw.diff(dim=3)
    return down.square().flatten(1).mean(1) + right.square().flatten(1).mean(1)


def reconstruction_sums(image_bchw: Tensor, target_bchw: Tensor, valid_b: Tensor) -> Tensor:
    """Sums over the valid images from which :func:`reconstruction_metrics` are had: (6,).

    Args:
        image_bchw: Images; what lies outside of 0 to 1 is cut off first, as in a picture.
        target_bchw: What they are meant to be.
        valid_b: (b,), false for padding.
    """
    with torch.no_grad():
        image, target = image_bchw.double().clamp(0, 1), target_bchw.double()
        values = [measure(image, target) for measure in (l1, l2, psnr, ssim)]
        values += [gradient_energy(image), gradient_energy(target)]
        return torch.stack(values, 1).masked_fill(~valid_b[:, None], 0).sum(0)


RECONSTRUCTION = ("l1", "l2", "psnr", "ssim", "sharpness")
"""Names of the metrics of :func:`reconstruction_metrics`."""


def reconstruction_metrics(sums: Tensor, samples: Tensor) -> Mapping[str, Tensor]:
    """``l1``, ``l2``, ``psnr`` and ``ssim``, means over images, and ``sharpness``.

    Sharpness is the gradient energy of all images over that of what they are meant to be: below 1 they are blurred.

    Args:
        sums: (6,) from :func:`reconstruction_sums`, added up.
        samples: (), how many images they are of.
    """
    means = dict(zip(RECONSTRUCTION, sums[:4] / samples, strict=False))
    return {**means, "sharpness": sums[4] / sums[5]}
