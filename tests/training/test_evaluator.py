"""Finished weights on a split, ensembles and soups: held against training's reports and averages by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from expflow.architectures.specs.mlp import MLPSpec
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.config.spec import UserComponent
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.errors import CheckpointMismatch, UserError
from expflow.optim.specs import ConstantSpec
from expflow.training import Attempt, World
from expflow.training.checkpoints import list_checkpoints
from expflow.training.evaluation.ensembles import ensemble, greedy_soup, mean_weights, metrics_of, uniform_soup
from expflow.training.evaluation.evaluator import SplitMetrics, open_evaluator
from expflow.training.evaluation.prediction_recorder import predictions_file
from expflow.training.evaluation.predictions import load_predictions
from tests.training import recipe_code
from tests.training.test_run_trial import recipe, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache"))


def on_digits(model=None, epochs=1, limit=400, **trainer):
    data = DigitsSpec(name="digits", batch_size=100, limit=limit)
    steady = ConstantSpec(name="constant")
    return recipe(epochs, data=data, model=model or MLPSpec(name="mlp", hidden=32), schedule=steady, trainer=trainer)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """Three seeds of a small network: recipe, folders, last reports."""
    made = []
    for seed in range(3):
        folder = tmp_path_factory.mktemp(f"s{seed}")
        outcome, reports = train(on_digits(), seed=seed, data_root=digits.root, folder=folder)
        made.append((folder, outcome, reports[-1].metrics))
    return made


def checkpoint(folder):
    return list_checkpoints(folder / "checkpoints")[0]


def opened(digits, made=None, seed=0):
    return open_evaluator(Attempt(made or on_digits(), seed, digits.root), World())


def test_a_finished_trial_gives_on_val_what_it_reported(digits, trained):
    for folder, outcome, reported in trained:
        with opened(digits) as on:
            held = on.load_weights(checkpoint(folder))
            measured = on.evaluate(held.weights, "val", rows=True)
        assert held.digest == outcome.weights
        assert dict(measured.metrics) == pytest.approx({n: v for n, v in reported.items() if n.startswith("val/")})
        np.testing.assert_array_equal(
            measured.predictions.scores, load_predictions(folder / predictions_file("val")).scores
        )
        np.testing.assert_allclose(measured.probabilities.sum(1), 1, atol=1e-6)


def test_test_is_another_split_with_names_of_its_own(digits, trained):
    with opened(digits) as on:
        measured = on.evaluate(on.load_weights(checkpoint(trained[0][0])).weights, "test")
    assert sorted(measured.metrics) == ["test/loss", "test/top1", "test/top5"]
    assert (measured.predictions.split, len(measured.predictions)) == ("test", digits.spec.samples["test"])
    assert measured.probabilities is None
    assert metrics_of(measured.predictions) == pytest.approx(dict(measured.metrics), rel=1e-5)


def test_averaged_weights_are_what_is_measured(digits, tmp_path):
    made = on_digits(ema=0.9)
    outcome, reports = train(made, data_root=digits.root, folder=tmp_path)
    with opened(digits, made) as on:
        held = on.load_weights(checkpoint(tmp_path))
        measured = on.evaluate(held.weights, "val")
    assert held.digest == outcome.weights  # of what was trained, which is not what is measured
    assert measured.metrics["val/loss"] == pytest.approx(reports[-1].metrics["val/loss"])


def test_measuring_leaves_the_process_as_it_was(digits, trained):
    before = torch.get_rng_state()
    with opened(digits) as on:
        on.evaluate(on.load_weights(checkpoint(trained[0][0])).weights, "val")
    assert torch.equal(torch.get_rng_state(), before)


def all_of(on, trained):
    return {str(seed): on.load_weights(checkpoint(folder)).weights for seed, (folder, _, _) in enumerate(trained)}


def test_an_ensemble_averages_probabilities(digits, trained):
    with opened(digits) as on:
        members = [on.evaluate(weights, "val", rows=True) for weights in all_of(on, trained).values()]
    both = ensemble(members)
    by_hand = sum(member.probabilities for member in members) / 3
    labels = members[0].predictions.labels
    assert both.metrics["val/top1"] == (by_hand.argmax(1) == labels).mean()
    assert both.metrics["val/loss"] == pytest.approx(-np.log(by_hand[np.arange(len(labels)), labels]).mean(), rel=1e-5)
    np.testing.assert_allclose(both.predictions.probabilities[:, 0], by_hand.max(1), rtol=1e-5)
    # by Jensen's inequality; an error in the order of images would break it
    assert both.metrics["val/loss"] <= np.mean([member.metrics["val/loss"] for member in members])
    alone = ensemble([members[0]])
    assert alone.metrics == pytest.approx(dict(members[0].metrics), rel=1e-5)


def test_an_ensemble_needs_scores_and_the_same_images(digits, trained):
    with opened(digits) as on:
        weights = all_of(on, trained)["0"]
        val, test = (on.evaluate(weights, split, rows=True) for split in ("val", "test"))
    with pytest.raises(UserError, match="same images"):
        ensemble([val, test])
    with pytest.raises(UserError, match="which only tasks give that put each sample"):
        ensemble([SplitMetrics({"val/loss": 1.0})])


def test_a_uniform_soup_is_the_mean_of_the_weights(digits, trained):
    with opened(digits) as on:
        weights = all_of(on, trained)
        soup = uniform_soup(on, weights)
        assert on.evaluate(weights["1"], "val").metrics == pytest.approx(
            {n: v for n, v in trained[1][2].items() if n.startswith("val/")}
        )  # the soup has left the members alone
    for name, value in soup.weights.items():
        torch.testing.assert_close(value, sum(trial[name] for trial in weights.values()) / 3)
    assert soup.members == ("0", "1", "2")
    same = dict.fromkeys("ab", weights["0"])
    with opened(digits) as on:
        assert on.evaluate(uniform_soup(on, same).weights, "val").metrics == pytest.approx(
            {n: v for n, v in trained[0][2].items() if n.startswith("val/")}
        )


def test_a_greedy_soup_is_never_worse_on_val_than_its_best_member(digits, trained):
    best = max(metrics["val/top1"] for _, _, metrics in trained)
    with opened(digits) as on:
        weights = all_of(on, trained)
        soup = greedy_soup(on, weights, "val/top1", better="max")
        again = on.evaluate(soup.weights, "val").metrics["val/top1"]
        assert again == soup.val.metrics["val/top1"] >= best
        # networks that began elsewhere have no common valley: their mean is worse, and is left out
        assert uniform_soup(on, weights).val.metrics["val/top1"] < best
        twice = greedy_soup(on, {"a": weights["0"], "b": weights["0"]}, "val/loss", better="min")
        assert twice.members == ("a", "b")  # as good, hence taken in
        with pytest.raises(UserError, match="val/f1"):
            greedy_soup(on, weights, "val/f1", better="max")


def small_resnet():
    return ResNetSpec(name="resnet", layout="cifar", depth=8, width=4)


def test_batch_norms_of_a_soup_are_taken_anew(digits, tmp_path):
    made, folders = on_digits(small_resnet()), [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        train(made, seed=seed, data_root=digits.root, folder=folder)
    with opened(digits, made) as on:
        weights = {folder.name: on.load_weights(checkpoint(folder)).weights for folder in folders}
        mean = mean_weights(list(weights.values()))
        soup = uniform_soup(on, weights)
        norms = [name for name in mean if name.endswith("running_mean")]
        assert norms
        assert all(not torch.equal(mean[name], soup.weights[name]) for name in norms)
        learned = [name for name, parameter in on.task.named_parameters() if parameter.requires_grad]
        assert all(torch.equal(mean[name], soup.weights[name]) for name in learned)
        first = next(module for module in on.task.modules() if isinstance(module, nn.BatchNorm2d))
        assert first.momentum == 0.1
        # what a norm sees first does not depend on other norms: its statistics can be had by hand
        feed, sums = _images(digits, on), []
        for images in feed:
            with torch.no_grad():
                sums.append(_before_first_norm(on, soup.weights, images).mean((0, 2, 3)))
        torch.testing.assert_close(soup.weights[norms[0]], torch.stack(sums).mean(0), rtol=1e-4, atol=1e-5)


def _images(digits, on):
    from expflow.data.streaming.loader import loader_for

    data = on_digits().data
    return [batch["image"] for batch in loader_for(data, digits.root, "train", seed=0, shuffle=True)]


def _before_first_norm(on, weights, images):
    on.task.load_state_dict(weights)
    norm, seen = next(module for module in on.task.modules() if isinstance(module, nn.BatchNorm2d)), []
    handle = norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    on.task.eval()(images)
    handle.remove()
    return seen[0]


def test_other_architectures_are_named(digits, trained):
    with opened(digits, on_digits(MLPSpec(name="mlp", hidden=16))) as on, pytest.raises(CheckpointMismatch, match="32"):
        on.load_weights(checkpoint(trained[0][0]))
    with pytest.raises(CheckpointMismatch, match="no mean"):
        mean_weights([{"a": torch.zeros(2)}, {"a": torch.zeros(3)}])


def test_a_split_that_is_not_there_is_said(digits, trained):
    with opened(digits) as on, pytest.raises(UserError, match="no split 'extra'"):
        on.evaluate(on.load_weights(checkpoint(trained[0][0])).weights, "extra")


# trainer.fit_on


def test_training_on_val_too_sees_every_sample_once_and_reports_no_val(digits, tmp_path, monkeypatch):
    from expflow.data.streaming.loader import Loader

    seen, made = {}, Loader.__iter__

    def noted(self):
        for batch in made(self):
            seen.setdefault(self.config.split, []).append(batch["label"][batch["valid"]])
            yield batch

    monkeypatch.setattr(Loader, "__iter__", noted)
    both = on_digits(limit=300, fit_on="train+val")
    _, reports = train(both, data_root=digits.root, folder=tmp_path)
    assert set(seen) == {"train+val"}
    expected = _labels(digits, "val") + _labels(digits, "train")[:300]
    epoch = torch.cat(seen["train+val"])[: len(expected)]
    assert torch.bincount(epoch).tolist() == np.bincount(expected).tolist()
    assert {name.split("/")[0] for name in reports[-1].metrics} == {"train", "fit", "cost", "progress"}
    assert not (tmp_path / predictions_file("val")).exists()
    with opened(digits, both) as on:
        weights = on.load_weights(checkpoint(tmp_path)).weights
        assert on.evaluate(weights, "test").metrics["test/top1"] > 0.5
        with pytest.raises(UserError, match="val was trained on"):
            on.evaluate(weights, "val")
        assert uniform_soup(on, {"a": weights}, val=False).val is None


def test_a_modules_own_val_loader_does_not_stand_in_for_the_val_that_was_trained_on(digits):
    both = on_digits(limit=300, fit_on="train+val")
    slots = dict.fromkeys(("model", "loss", "optimizer", "schedule"))
    task = UserComponent(name=f"{recipe_code.__name__}:OwnValidation")
    _, reports = train(both.model_copy(update={**slots, "task": task}), data_root=digits.root)
    assert not any(name.startswith("val/") for name in reports[-1].metrics)


def _labels(digits, split):
    from tests.training.test_predictions import labels_of

    return labels_of(digits, split)


def test_training_on_val_too_goes_on_after_a_cut_bit_for_bit(digits, tmp_path):
    made = on_digits(epochs=2, fit_on="train+val")
    whole, _ = train(made, data_root=digits.root)
    train(on_digits(epochs=1, fit_on="train+val"), data_root=digits.root, folder=tmp_path)
    cut, _ = train(made, data_root=digits.root, folder=tmp_path)
    assert cut.weights == whole.weights
