"""One-shot search by drawn paths: each step trains one child, by weights that all children share.

Source:
    Pham et al. 2018, "Efficient Neural Architecture Search via Parameter Sharing", section 2.2: shared weights and the
    policy learn in turn, the policy by REINFORCE with a moving average as baseline. Here it has a distribution of
    its own for each edge, as in DARTS, and no recurrent network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from expflow.architectures.supernet_children import log_probability, sampled_path, strongest_path
from expflow.tasks.base import Batch
from expflow.tasks.one_shot import OneShot
from expflow.tasks.specs import OneShotSpec


class SampledPaths(OneShot):
    """Trains a supernet by drawn children, and the distribution that they are drawn from by how well they do.

    What is validated as ``val/top1`` is the child that the distribution stands for, so ``val/gap`` is 0. Weights that a
    step's child does not have get a gradient of 0, so that all ranks do the same.

    Args:
        spec: What the user chose.
        arguments: As those of :class:`~expflow.tasks.one_shot.OneShot`.
    """

    def __init__(self, spec: OneShotSpec, *arguments: Any) -> None:
        super().__init__(spec, *arguments)
        # Buffers, so that a checkpoint has them and all ranks draw the same children.
        self.register_buffer("_path_seed", torch.randint(2**31, (), dtype=torch.int64))
        self.register_buffer("_paths_drawn", torch.zeros((), dtype=torch.int64))
        self.register_buffer("_baseline", torch.zeros((), dtype=torch.float64))

    def _draw(self) -> tuple[Sequence[int], Sequence[int]]:
        """The next child, by a generator that follows from how many were drawn."""
        drawn = self.get_buffer("_paths_drawn").add_(1)
        seed = (int(self.get_buffer("_path_seed")) * 1_000_003 + int(drawn)) % 2**63
        return sampled_path(self.model, torch.Generator().manual_seed(seed))

    def weights_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean loss () of one drawn child, and the number of samples ()."""
        with self.model.following(self._draw()):
            loss, samples = super().weights_loss(batch)
        untouched = torch.stack([parameter.sum() for parameter in self.model.parameters()]).sum() * 0.0
        return loss + untouched, samples

    def _architecture_gradient(self, held: Batch, own: Batch) -> Sequence[Tensor]:
        paths = [self._draw() for _ in range(self._spec.paths)]
        rewards = self._rewards(paths, held)
        baseline = self.get_buffer("_baseline")
        mean = rewards.mean()
        if not int(self.get_buffer("_architecture_steps")):
            baseline.copy_(mean)
        leaves = [weights.detach().requires_grad_() for weights in self.model.architecture]
        advantages = (rewards - baseline).to(leaves[0].dtype)
        chosen = torch.stack([log_probability(leaves, path) for path in paths])
        logs = [torch.log_softmax(weights, 1) for weights in leaves]
        entropy = -torch.stack([(log.exp() * log).sum() for log in logs]).sum()
        loss = -(advantages.to(chosen.device) * chosen).mean() - self._spec.path_entropy * entropy
        baseline.lerp_(mean, 1 - self._spec.path_baseline)
        return torch.autograd.grad(loss, leaves)

    @torch.no_grad()
    def _rewards(self, paths: Sequence[tuple[Sequence[int], Sequence[int]]], held: Batch) -> Tensor:
        """(paths,), the share of the held samples of all ranks that each child gets right."""
        images = (held["image"] - self._mean) / self._std
        hits = []
        for path in paths:
            with self.model.following(path):
                hits.append(self._hits(self.model(images), held, 1).double())
        counts = torch.stack([*hits, held["valid"].sum().double()])
        if self._ranks > 1:
            torch.distributed.all_reduce(counts)
        return counts[:-1] / counts[-1]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Validates the child that the distribution stands for."""
        with self.model.following(strongest_path(self.model)):
            return super().validation_step(batch, batch_idx)
