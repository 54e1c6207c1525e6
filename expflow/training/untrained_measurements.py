"""What is measured of a network before it is trained: its latency, and zero-cost proxies of what it may learn.

Source:
    Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", section 3 (the proxies, scored at initialisation);
    Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow", equation 3;
    Mellor et al. 2021, "Neural Architecture Search without Training", the score of its first version (covariance of
    the Jacobian).
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from expflow.architectures.accounting import example_inputs
from expflow.config.schema import Recipe
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.tasks import build_task
from expflow.training.contract import Attempt, World
from expflow.training.isolation import isolated, seed_everything
from expflow.training.transfer.trained_classifier import label_source
from expflow.training.transfer.weight_loading import network_of
from expflow.training.trial_data import open_trial_data

LATENCY = "latency_ms"
"""Milliseconds of a forward pass of one sample."""
_PASSES, _WARM_UP = 20, 3
_SMALL = 1e-5


@dataclass(frozen=True)
class UntrainedMeasurement:
    """What was measured of a network.

    Attributes:
        metrics: By name; what is not finite is left out.
        seconds: How long that took.
        failure: Why something could not be measured; "" where all was.
    """

    metrics: dict[str, float]
    seconds: float
    failure: str = ""


def measure_untrained(
    recipe: Recipe, data_spec: DataSpec, data_root: Path | None, seed: int, wanted: Sequence[str], threads: int
) -> UntrainedMeasurement:
    """Measure a network with the weights that a seed draws.

    Args:
        recipe: What would be trained.
        data_spec: The images and classes.
        data_root: The prepared shards, of which proxies read one training batch; None where none is read.
        seed: The trial's seed.
        wanted: Names: :data:`LATENCY`, and keys of :data:`PROXIES`.
        threads: Compute threads.
    """
    began, metrics = time.perf_counter(), dict[str, float]()
    failure = ""
    try:
        with isolated(threads=threads, deterministic=False):
            seed_everything(seed)
            task = build_task(recipe, data_spec)
            if LATENCY in wanted:
                metrics[LATENCY] = latency_ms(network_of(task), _inputs(recipe, data_spec))
            if names := [name for name in wanted if name in PROXIES]:
                batch = _first_batch(recipe, data_root, seed, threads)
                metrics |= {name: PROXIES[name](copy.deepcopy(task), batch) for name in names}
    except (Exception, SystemExit) as error:  # noqa: BLE001  a network of the user's may raise anything
        failure = f"{type(error).__name__}: {error}"
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return UntrainedMeasurement(finite, time.perf_counter() - began, failure)


def _inputs(recipe: Recipe, data_spec: DataSpec) -> tuple[Tensor, ...]:
    if not isinstance(recipe.model, Spec):
        raise UserError("a latency is that of one network, and this recipe has several under model")
    return example_inputs(recipe.model, data_spec)


def latency_ms(network: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Milliseconds of a forward pass: the median of some, in eval mode.

    Args:
        network: The network.
        inputs: What it is given of one sample.
    """
    laps = []
    network.eval()
    with torch.no_grad():
        for _ in range(_WARM_UP + _PASSES):
            began = time.perf_counter()
            network(*inputs)
            laps.append(time.perf_counter() - began)
    return 1000 * statistics.median(laps[_WARM_UP:])


def _first_batch(recipe: Recipe, data_root: Path | None, seed: int, threads: int) -> Any:
    if label_source(recipe.data):
        raise UserError("proxies read a batch with its true labels, and data.labels_from gives others; remove one")
    data = open_trial_data(Attempt(recipe, seed, data_root), World(threads=threads))
    if data.train is None:
        raise UserError("proxies read a batch of prepared shards, and these data are a module of your own")
    batch = next(iter(data.train), None)
    if batch is None:
        raise UserError("there is no batch to measure proxies on")
    return batch


def gradient_norm(task: Any, batch: Any) -> float:
    """The Euclidean norm of the loss's gradient by all weights, on one batch.

    Args:
        task: The task, with its network and loss.
        batch: A training batch.
    """
    task.train()
    loss, _ = task.training_loss(batch)
    loss.backward()
    gradients = [parameter.grad for parameter in task.parameters() if parameter.grad is not None]
    return float(torch.stack([gradient.double().square().sum() for gradient in gradients]).sum().sqrt().detach())


def jacobian_covariance(task: Any, batch: Any) -> float:
    """How unlike the samples of a batch are in their gradients by the image: more where the network tells them apart.

    Args:
        task: The task, with its network.
        batch: A training batch.
    """
    task.train()
    images = batch["image"].float().requires_grad_()
    (slopes,) = torch.autograd.grad(task(images).sum(), images)
    correlations_bb = torch.corrcoef(slopes.flatten(1).double())
    eigenvalues_b = torch.linalg.eigvalsh(correlations_bb).clamp(min=0) + _SMALL
    return -float((eigenvalues_b.log() + 1 / eigenvalues_b).sum())


def synflow(task: Any, batch: Any) -> float:
    """The logarithm of the synaptic flow: the sum over weights of weight times gradient, all weights taken absolute.

    Batch norms are in eval mode with fresh statistics, so they pass on what they get.

    Args:
        task: The task, with its network.
        batch: A training batch, for its shape.
    """
    network = network_of(task).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    network(torch.ones_like(batch["image"][:1], dtype=torch.float64)).sum().backward()
    flows = [(value.detach() * value.grad).sum() for value in network.parameters() if value.grad is not None]
    return float(torch.stack(flows).sum().log())


PROXIES: dict[str, Callable[[Any, Any], float]] = {
    "synflow": synflow,
    "jacobian_covariance": jacobian_covariance,
    "gradient_norm": gradient_norm,
}
"""Zero-cost proxies by name, each called with a task of its own and a training batch; more is meant to be better."""
