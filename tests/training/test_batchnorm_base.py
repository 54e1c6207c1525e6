"""torch's private base class is what expflow takes it for."""

import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

import expflow
from expflow.training.batchnorm_base import BatchNormBase

ALL = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.SyncBatchNorm]


@pytest.mark.parametrize("norm", ALL)
def test_it_is_the_base_of_all_batch_norms(norm):
    assert issubclass(norm, BatchNormBase)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm])
def test_it_is_the_base_of_nothing_else(norm):
    assert not issubclass(norm, BatchNormBase)


def test_it_has_what_is_used_of_it():
    arguments = list(inspect.signature(BatchNormBase.__init__).parameters)
    assert arguments[:6] == ["self", "num_features", "eps", "momentum", "affine", "track_running_stats"]
    norm = nn.BatchNorm1d(3)
    norm(torch.ones(4, 3))
    assert (norm.num_batches_tracked.item(), norm.running_mean.shape, norm.running_var.shape) == (1, (3,), (3,))
    norm.reset_running_stats()
    assert norm.num_batches_tracked.item() == 0


def test_nothing_else_leans_on_the_private_name():
    files = Path(expflow.__file__).parent.rglob("*.py")
    using = [file.name for file in files if "_BatchNorm" in file.read_text(encoding="utf-8")]
    assert using == ["batchnorm_base.py"]
