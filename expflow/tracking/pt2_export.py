"""Networks as models in MLflow's format, which MLflow's client loads without expflow and without a pickle."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.errors import UserError
from expflow.tracking.store import bounded_environment

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

AGREEMENT = 1e-5
"""The largest difference between the outputs of a network and of its export, relative to the largest output."""

_PACKAGES = ("mlflow", "numpy", "torch")


def exporting_versions() -> str:
    """The versions that an export depends on, in words."""
    return ", ".join(f"{package} {version(package)}" for package in _PACKAGES)


def export_model(network: nn.Module, example: Tensor, metadata: Mapping[str, Any], folder: Path) -> None:
    """Write a network as a model in MLflow's format, and see that it gives what the network gives.

    The size of a batch stays open; other sizes are the example's.

    Args:
        network: In eval mode, on the CPU; (n, ...) -> (n, ...).
        example: Inputs of at least two samples.
        metadata: What is kept with the model, as plain data.
        folder: Where it is written; what is there is replaced.

    Raises:
        UserError: The network gives no tensor, or its export gives something else. Torch raises all sorts where a
            network cannot be exported.
    """
    with bounded_environment(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's and torch's own code: nothing that we could change
        import mlflow.pytorch
        import torch
        from mlflow.models import ModelSignature

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        outputs = _outputs(network, example)
        shutil.rmtree(folder, ignore_errors=True)
        inputs = example.numpy()
        mlflow.pytorch.save_model(
            network,
            str(folder),
            signature=ModelSignature(inputs=_schema(inputs), outputs=_schema(outputs.numpy())),
            input_example=inputs,
            serialization_format="pt2",
            pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in _PACKAGES],
            metadata=dict(metadata),
        )
        exported = mlflow.pytorch.load_model(str(folder))
        more = torch.cat([example, example[:1]])  # another size of batch than the one that was traced
        with torch.no_grad():
            _check_agreement(exported(more), network(more))


def _outputs(network: Any, example: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.no_grad():
        outputs = network(example)
    if not isinstance(outputs, torch.Tensor):
        raise UserError(f"the network gives a {type(outputs).__name__}; a model that is served gives one tensor")
    return outputs


def _schema(batch: NDArray[np.generic]) -> Any:
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(batch.dtype, (-1, *batch.shape[1:]))])


def _check_agreement(exported: Tensor, own: Tensor) -> None:
    scale = float(own.abs().max())
    difference = float((exported - own).abs().max())
    if not difference <= AGREEMENT * scale:
        raise UserError(f"its export gives other outputs: {difference:.3g} away, where the largest is {scale:.3g}")
