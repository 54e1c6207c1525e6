"""Slots with several components are refused by name, with what the task takes."""

import pytest

from expflow.config import load
from expflow.errors import ExperimentInvalid

GENERATOR, JUDGE = "generator: dcgan_generator", "discriminator: dcgan_discriminator"
REST = "data: digits\ntask: gan\n"


def problems(tmp_path, text):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ExperimentInvalid) as raised:
        load(tmp_path / "wrong.yaml")
    return [(problem.key, problem.message) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("model", "optimizer", "key", "message"),
    [
        ("dcgan_generator", "adam", "model", "takes generator and discriminator; name each: model: {generator: …"),
        (f"{{{GENERATOR}}}", "adam", "model.discriminator", "missing; the task gan takes generator and discriminator"),
        (f"{{{GENERATOR}, {JUDGE}, judge: mlp}}", "adam", "model.judge", "has no model of this name"),
        (
            f"{{generator: mlp, {JUDGE}}}",
            "adam",
            "model.generator",
            "mlp makes of images one score for each class of an image, and the generator of the task gan has to make of"
            " vectors of noise an image of its size: dcgan_generator",
        ),
        (
            f"{{{GENERATOR}, discriminator: pix2pix_generator}}",
            "adam",
            "model.discriminator",
            "how real an image looks: dcgan_discriminator, patch_discriminator",
        ),
        (
            f"{{{GENERATOR}, discriminator: {{name: dcgan_discriminator, sees: pair}}}}",
            "adam",
            "model.discriminator.sees",
            "the task gan shows it: image; found pair",
        ),
        (
            f"{{{GENERATOR}, {JUDGE}}}",
            "{generator: adam, judge: sgd}",
            "optimizer.judge",
            "the task gan has no optimizer of this name",
        ),
    ],
)
def test_a_part_that_does_not_fit_is_named(model, optimizer, key, message, tmp_path):
    refusals = problems(tmp_path, f"{REST}model: {model}\noptimizer: {optimizer}\n")
    assert any(place == key and message in text for place, text in refusals), refusals


@pytest.mark.parametrize("optimizer", ["adam", "{generator: adam, discriminator: sgd}"])
def test_one_optimizer_or_one_for_each(optimizer, tmp_path):
    (tmp_path / "right.yaml").write_text(f"{REST}model: {{{GENERATOR}, {JUDGE}}}\noptimizer: {optimizer}\n")
    assert set(load(tmp_path / "right.yaml").experiment.model) == {"generator", "discriminator"}


def test_a_network_of_noise_is_no_autoencoder(tmp_path):
    text = "data: digits\ntask: autoencoder\nmodel: dcgan_generator\noptimizer: adam\n"
    ((key, message),) = problems(tmp_path, text)
    assert key == "model"
    assert "dcgan_generator gives it from vectors of noise" in message
