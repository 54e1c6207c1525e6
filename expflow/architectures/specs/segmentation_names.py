"""Names of the packages' networks that segment. Standard library only."""

from __future__ import annotations

TORCHVISION_SEGMENTATION = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet101",
    "deeplabv3_resnet50",
    "fcn_resnet101",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)
"""Segmentation networks of torchvision; a test compares them with what it registers."""
