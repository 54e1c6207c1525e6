"""Tasks that make something of noise or of a text are served, too: MLflow's model gives what the task gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expflow.config import load
from expflow.data.prepare.build import prepare
from expflow.tracking.pt2_export import export_model
from expflow.training import Attempt, World
from expflow.training.evaluation.evaluator import open_evaluator
from expflow.training.evaluation.inference_network import example_inputs, inference_network

DIGITS = "data: {name: digits, batch_size: 20, limit: 40}\noptimizer: adam\n"
DATES = "data: {name: written_dates, train_dates: 50, val_dates: 20, batch_size: 10}\noptimizer: adam\n"
RECIPES = {
    "gan": (
        DIGITS,
        "model:\n  generator: {name: dcgan_generator, latent: 4, width: 4}\n"
        "  discriminator: {name: dcgan_discriminator, width: 4}\ntask: gan\n",
        (4,),
        (1, 8, 8),
    ),
    "diffusion": (
        DIGITS,
        "model: {name: ddpm_unet, width: 4, factors: [1, 2], blocks: 1}\n"
        "task: {name: diffusion, timesteps: 20, sampling_steps: 3}\n",
        (1, 8, 8),
        (1, 8, 8),
    ),
    "seq2seq": (
        DATES,
        "model: {name: transformer, width: 8, depth: 1, heads: 2, hidden: 8, dropout: 0.0}\n"
        "task: {name: seq2seq, beams: 2}\nloss: cross_entropy\n",
        (29,),
        (11,),
    ),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_served_is_what_the_task_makes(name: str, tmp_path: Path) -> None:
    data, rest, taken, given = RECIPES[name]
    (tmp_path / "served.yaml").write_text(data + rest)
    recipe = load(tmp_path / "served.yaml").experiment.recipe
    root = prepare(recipe.data, cache=tmp_path / "cache").root  # type: ignore[arg-type]
    with open_evaluator(Attempt(recipe, 0, root), World()) as evaluator:
        example = example_inputs(evaluator, "val", 8)
        assert example.shape == (8, *taken)
        weights = {weight: value.clone() for weight, value in evaluator.task.state_dict().items()}
        network = inference_network(evaluator, weights)
        assert network(torch.cat([example, example[:1]])).shape == (9, *given)
        export_model(network, example, {}, tmp_path / "model")  # compares the two, at another size of batch
    assert (tmp_path / "model" / "MLmodel").is_file()
