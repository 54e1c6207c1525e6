"""A trial computes what a plain loop of torch computes, bit for bit: the base of the tasks adds and changes nothing."""

import json

import pytest
import torch
from torch.nn import functional

from expflow import optim
from expflow.config.components import recipe_from
from expflow.data.prepare.build import prepare
from expflow.data.streaming.loader import loader_for
from expflow.tasks import build_task
from expflow.training import Attempt, World, run_trial
from expflow.training.isolation import isolated, seed_everything
from expflow.training.weights_digest import weights_digest

SEED, EPOCHS = 3, 2
RECIPES = {
    "classification": {
        "data": {"name": "digits", "limit": 150, "batch_size": 64},
        "model": {"name": "mlp", "hidden": 16},
    },
    "segmentation": {
        "data": {
            "name": "digit_scenes",
            "train_scenes": 40,
            "val_scenes": 4,
            "test_scenes": 1,
            "side": 16,
            "batch_size": 16,
            "train": {"flip": 0.5},
        },
        "model": {"name": "unet", "width": 2, "depth": 2, "norm": "batch"},
    },
}


def by_hand(recipe, data):
    """Digest of the weights, and the mean training loss of each epoch."""
    channels = (-1, 1, 1)
    mean, std = (255.0 * torch.tensor(values).view(channels) for values in (data.spec.mean, data.spec.std))
    losses = []
    with isolated(threads=1, deterministic=True):
        seed_everything(SEED)
        task = build_task(recipe, data.spec)
        optimizer = optim.build_optimizer(recipe.optimizer)(task.model)
        loader = loader_for(recipe.data, data.root, "train", seed=SEED, shuffle=True)
        task.train()
        for epoch in range(EPOCHS):
            loader.sampler.set_epoch(epoch)
            sums = torch.zeros(2, dtype=torch.float64)
            for batch in loader:
                scores = task.model((batch["image"] - mean) / std)
                if "label" in batch:
                    values, counts = functional.cross_entropy(scores, batch["label"], reduction="none"), batch["valid"]
                    loss = values.dot(counts / counts.sum())
                else:
                    target = batch["mask"].long().masked_fill(batch["mask"] == 255, -100)
                    values, counts = functional.cross_entropy(scores, target, reduction="none"), target != -100
                    loss = torch.where(counts, values, 0).sum() / counts.sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                sums += torch.stack([counts.sum().double(), loss.detach().double() * counts.sum()])
            losses.append((sums[1] / sums[0]).item())
        return weights_digest(task), losses


@pytest.mark.parametrize("task", RECIPES)
def test_weights_and_losses_of_a_trial_are_those_of_a_plain_loop_bit_for_bit(task, tmp_path):
    text = {"task": task, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "trainer": {"epochs": EPOCHS}}
    recipe = recipe_from(json.loads(json.dumps({**RECIPES[task], **text})), tmp_path)
    data = prepare(recipe.data, cache=tmp_path / "cache")
    reports = []
    outcome = run_trial(
        Attempt(recipe, SEED, data.root), World(threads=1), lambda report: reports.append(report) or True
    )
    digest, losses = by_hand(recipe, data)
    assert outcome.weights == digest
    assert [report.metrics["train/loss"] for report in reports[:EPOCHS]] == pytest.approx(losses, abs=1e-12)
