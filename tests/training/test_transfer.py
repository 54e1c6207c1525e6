"""A training that begins with another one's weights: what it takes over, what it leaves alone, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from expflow.config.initial_weights import Init
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.errors import CheckpointDamaged, CheckpointMismatch, CheckpointUnsafe, Preempted, UserError, WeightsMissing
from expflow.losses.specs import CrossEntropySpec
from expflow.optim.specs import AdamSpec, ConstantSpec, OneCycleSpec, SGDSpec
from expflow.tasks.specs import ClassificationSpec
from expflow.training import Attempt, Saved, World, run_trial
from expflow.training.checkpoints.tensor_files import STATE_DICT, read_weights
from expflow.training.transfer import PretrainedWeights
from expflow.training.transfer.pretrained import sha256_of
from tests.rank_forks import run_forked_ranks
from tests.training import transfer_code
from tests.training.comparing import comparable

CODE = transfer_code.__name__
STEPS = 4
"""Optimizer steps of an epoch."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache")).root


def recipe(epochs: int = 2, *, init: dict[str, Any] | None = None, trainer: Any = None, **changes: Any) -> Recipe:
    usual: dict[str, Any] = {
        "data": DigitsSpec(name="digits", batch_size=50, limit=200),
        "model": UserComponent(name=f"{CODE}:Staged"),
        "task": ClassificationSpec(name="classification"),
        "loss": CrossEntropySpec(name="cross_entropy"),
        "optimizer": SGDSpec(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.01),
        "schedule": OneCycleSpec(name="one_cycle"),
    }
    begins = Init.model_validate(init) if init is not None else None
    return Recipe(**usual | changes, init=begins, trainer=Trainer.model_validate({"epochs": epochs} | (trainer or {})))


class TrialMessages:
    """What a trial said, and when it is asked to leave."""

    def __init__(self, leave_at: int | None = None) -> None:
        self.reports: dict[int, Any] = {}
        self.saved: list[Saved] = []
        self.asked, self.leave_at = -1, leave_at  # the first question comes before the first step

    def on_report(self, report: Any) -> bool:
        self.reports[report.step] = comparable(report.metrics)
        return True

    def on_notice(self, notice: Any) -> None:
        if isinstance(notice, Saved):
            self.saved.append(notice)

    def leave(self) -> bool:
        self.asked += 1
        return self.asked == self.leave_at


def train(
    of: Recipe,
    root: Path,
    folder: Path | None = None,
    weights: PretrainedWeights | None = None,
    messages: TrialMessages | None = None,
    ranks: int = 1,
) -> tuple[Any, TrialMessages]:
    messages = messages or TrialMessages()
    run: Any = run_trial if ranks == 1 else run_forked_ranks
    attempt = Attempt(of, 0, root, folder, weights=weights)
    return run(
        attempt, World(ranks=ranks), messages.on_report, on_notice=messages.on_notice, leave=messages.leave
    ), messages


def trained(of: Recipe, root: Path, folder: Path, **more: Any) -> tuple[dict[str, torch.Tensor], TrialMessages]:
    """The weights that a trial ended with, by the network's names."""
    _, messages = train(of, root, folder, **more)
    weights = read_weights(messages.saved[-1].path)
    return {name.removeprefix("model."): value for name, value in weights.items()}, messages


def from_file(path: Path) -> PretrainedWeights:
    return PretrainedWeights(((path, sha256_of(path)),), str(path))


@pytest.fixture(scope="module")
def pretraining(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], PretrainedWeights]:
    """Weights of a trial, and where they lie."""
    weights, messages = trained(recipe(), root, tmp_path_factory.mktemp("pretraining"))
    return weights, from_file(messages.saved[-1].path / "weights.pt")


FROM = {"from": "pretraining/best"}


# what is taken over


def test_it_begins_with_the_weights_and_a_fresh_head(root, tmp_path, pretraining):
    """At a rate of next to nothing, weights end where they begin."""
    weights, source = pretraining
    still = {"optimizer": SGDSpec(name="sgd", lr=1e-30), "schedule": ConstantSpec(name="constant")}
    fresh, _ = trained(recipe(1, **still), root, tmp_path / "fresh")
    new, _ = trained(recipe(1, init=FROM, **still), root, tmp_path / "new", weights=source)
    kept, _ = trained(recipe(1, init=FROM | {"head": "keep"}, **still), root, tmp_path / "kept", weights=source)
    learned = [name for name in weights if name.endswith((".weight", ".bias"))]
    for name in learned:
        begun = fresh if name.startswith("head") else weights
        assert torch.equal(new[name], begun[name]), name
        assert torch.equal(kept[name], weights[name]), name
    assert not torch.equal(fresh["head.weight"], weights["head.weight"])


def test_beginning_with_the_weights_that_would_be_drawn_is_beginning_from_scratch(root, tmp_path):
    """Taking weights over draws no random number: the order of the data and dropout are those of any other trial."""
    plain = {"model": UserComponent(name=f"{CODE}:Plain", dropout=0.3)}
    still = {"optimizer": SGDSpec(name="sgd", lr=1e-30), "schedule": ConstantSpec(name="constant")}
    _, messages = trained(recipe(1, **plain, **still), root, tmp_path)
    source = from_file(messages.saved[-1].path / "weights.pt")
    scratch, expected = train(recipe(**plain), root)
    begun, also = train(recipe(init=FROM | {"head": "keep"}, **plain), root, weights=source)
    assert begun == scratch
    assert also.reports == expected.reports


@pytest.mark.parametrize("key", [*STATE_DICT, None])
@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_files_of_others_are_read_however_they_name_things(root, tmp_path, pretraining, prefix, key):
    weights, _ = pretraining
    tree: Any = {f"{prefix}{name}": value for name, value in weights.items()}
    torch.save({key: tree, "epoch": 3} if key else tree, tmp_path / "theirs.pth")
    model = transfer_code.Staged(10)
    from expflow.training.transfer.weight_loading import load_fitting_weights, read_pretrained

    source = from_file(tmp_path / "theirs.pth")
    load_fitting_weights(model, read_pretrained(source), head="keep", origin=source.origin)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())


def test_the_mean_weights_are_taken_where_a_training_kept_them(root, tmp_path):
    from expflow.training.transfer.weight_loading import read_pretrained

    trained(recipe(trainer={"ema": 0.9}), root, tmp_path)
    saved = tmp_path / "checkpoints" / f"step-{2 * STEPS:09d}"
    files = tuple((saved / name, sha256_of(saved / name)) for name in ("weights.pt", "state-0.pt"))
    mean, live = read_pretrained(PretrainedWeights(files, "")), read_weights(saved)
    state = torch.load(saved / "state-0.pt", weights_only=True)["trainer"]["callbacks"]["averaging"]["means"]
    assert torch.equal(mean["model.stem.0.weight"], state["model.stem.0.weight"])
    assert not torch.equal(mean["model.stem.0.weight"], live["model.stem.0.weight"])


@pytest.mark.parametrize(("saved", "wanted"), [(3, 1), (1, 3)])
def test_a_first_convolution_for_other_channels_gives_the_same_on_grey_images(saved, wanted):
    from expflow.training.transfer.weight_loading import load_fitting_weights

    before, after = (
        nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.Linear(4, 2)) for channels in (saved, wanted)
    )
    load_fitting_weights(after, before.state_dict(), head="keep", origin="x")
    grey = torch.rand(1, 1, 3, 3)
    scores = [net(grey.expand(1, channels, 3, 3)) for net, channels in ((before, saved), (after, wanted))]
    assert torch.allclose(*scores, atol=1e-6)


# what is refused


def test_another_architecture_is_named_layer_by_layer_with_both_shapes(root, pretraining):
    _, source = pretraining
    with pytest.raises(CheckpointMismatch) as error:
        train(recipe(init=FROM, model=UserComponent(name=f"{CODE}:Staged", width=12)), root, weights=source)
    assert "body.0.weight: 24x16 in the checkpoint, 12x16 in the model" not in str(error.value)
    assert "stem.0.weight: 32x64 in the checkpoint, 12x64 in the model" in str(error.value)
    assert "head" not in str(error.value)


def test_a_head_of_other_classes_can_be_drawn_anew(tmp_path):
    from expflow.training.transfer.weight_loading import load_fitting_weights

    weights = transfer_code.Staged(7).state_dict()
    with pytest.raises(CheckpointMismatch, match=r"head.weight: 7x32 .* 10x32 .*\n.*init.head: new draws it anew"):
        load_fitting_weights(transfer_code.Staged(10), weights, head="keep", origin="x")
    load_fitting_weights(transfer_code.Staged(10), weights, head="new", origin="x")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a file ran')",))


def test_weights_that_would_run_code_are_refused_by_name(root, tmp_path):
    torch.save({"stem": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointUnsafe, match="builtins:exec"):
        train(recipe(init=FROM), root, weights=from_file(tmp_path / "evil.pth"))


def test_weights_that_changed_since_the_plan_was_made_are_refused(root, tmp_path, pretraining):
    weights, _ = pretraining
    torch.save(weights, tmp_path / "mine.pt")
    source = from_file(tmp_path / "mine.pt")
    torch.save({name: value + 1 for name, value in weights.items()}, tmp_path / "mine.pt")
    with pytest.raises(CheckpointDamaged, match="its sha256 is no longer"):
        train(recipe(init=FROM), root, weights=source)
    (tmp_path / "mine.pt").unlink()
    with pytest.raises(WeightsMissing, match=r"mine\.pt"):
        train(recipe(init=FROM), root, weights=source)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"freeze": ["stm"]}, r"init\.freeze\.stm: no module .* nearest: stem"),
        ({"lr_scale": {"bodi": 0.1}}, r"lr_scale\.bodi: no module .* nearest: body"),
        ({"freeze": ["stem", "body", "head"]}, r"init\.freeze: nothing of the network is left to train"),
    ],
)
def test_a_name_that_matches_nothing_is_refused_with_the_nearest(root, init, message):
    with pytest.raises(UserError, match=message):
        train(recipe(init=init), root)


# freezing


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    ("freeze", "trained_parts"),
    [
        ("backbone", {"head"}),
        ("none", {"stem", "body", "head"}),
        (["stem"], {"body", "head"}),
        (["body.0"], {"stem", "body", "head"}),
    ],
)
def test_what_is_frozen_stays_bit_for_bit_with_its_norms_statistics(root, tmp_path, pretraining, freeze, trained_parts):
    """Weight decay and momentum do not touch it either, nor does validation put its norms back into train mode."""
    weights, source = pretraining
    init = FROM | {"head": "keep", "freeze": freeze}
    after, _ = trained(recipe(3, init=init), root, tmp_path, weights=source)
    assert moved(weights, after) == trained_parts
    assert torch.equal(after["body.0.weight"], weights["body.0.weight"]) == (freeze in ("backbone", ["body.0"]))


def test_a_random_backbone_can_be_frozen_too(root, tmp_path):
    one, _ = trained(recipe(1, init={"freeze": "backbone"}), root, tmp_path / "1")
    two, _ = trained(recipe(3, init={"freeze": "backbone"}), root, tmp_path / "2")
    assert moved(one, two) == {"head"}


def test_parts_have_rates_of_their_own(root, tmp_path, pretraining):
    weights, source = pretraining
    init = FROM | {"head": "keep", "lr_scale": {"backbone": 1e-30, "body.0": 1}}
    options = {"optimizer": SGDSpec(name="sgd", lr=0.1), "schedule": ConstantSpec(name="constant")}
    after, _ = trained(recipe(1, init=init, **options), root, tmp_path, weights=source)
    learned = {name for name in weights if name.endswith((".weight", ".bias"))}
    changed = {name for name in learned if not torch.equal(after[name], weights[name])}
    assert changed == {"body.0.weight", "body.0.bias", "head.weight", "head.bias"}


# two phases


PHASES = FROM | {"freeze": "backbone", "unfreeze_after": 2, "lr_scale": {"backbone": 0.1}}


def test_first_the_head_and_then_everything(root, tmp_path, pretraining):
    weights, source = pretraining
    every = {"checkpoint": {"every_epochs": 1, "keep": 9}}
    _, messages = trained(recipe(4, init=PHASES, trainer=every), root, tmp_path, weights=source)
    states = {saved.step: read_weights(saved.path) for saved in messages.saved}
    begun = {f"model.{name}": value for name, value in weights.items()}

    def parts(before, after):
        return {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}

    assert parts(begun, states[2 * STEPS]) == {"head"}
    assert parts(states[2 * STEPS], states[3 * STEPS]) == {"stem", "body", "head"}


@pytest.mark.parametrize("freeze", ["backbone", ["body", "head.weight"]], ids=str)
def test_without_rates_of_their_own_what_was_frozen_begins_its_momentum_then(root, pretraining, freeze):
    """Fused SGD knows one first step for each of its groups, so what comes later is in one of its own."""
    _, source = pretraining
    init = FROM | {"freeze": freeze, "unfreeze_after": 1}
    outcome, _ = train(recipe(2, init=init), root, weights=source)
    assert outcome.step == 2 * STEPS


OPTIMIZERS = {
    "sgd": SGDSpec(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": AdamSpec(name="adam", lr=0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_cut_on_either_side_of_the_border_and_on_it_it_is_the_training_that_was_not_cut(
    root, tmp_path, pretraining, optimizer
):
    _, source = pretraining
    of = recipe(4, init=PHASES, optimizer=OPTIMIZERS[optimizer])
    whole, expected = train(of, root, weights=source)
    asked = STEPS + 8  # an epoch's training and validation batches
    for question in (2, asked + 3, asked + STEPS, 2 * asked, 2 * asked + 1, 2 * asked + 3, 3 * asked + 2):
        folder, messages = tmp_path / str(question), TrialMessages(leave_at=question)
        with pytest.raises(Preempted):
            train(of, root, folder, source, messages)
        messages.leave_at = None
        again, _ = train(of, root, folder, None, messages)  # its own checkpoint has all that it needs
        assert again == whole, question
        assert messages.reports == expected.reports, question


def test_the_comparison_can_fail(root, tmp_path, pretraining):
    """A resume that forgot the border would end elsewhere."""
    _, source = pretraining
    whole, _ = train(recipe(4, init=PHASES), root, weights=source)
    other, _ = train(recipe(4, init=PHASES | {"unfreeze_after": 3}), root, weights=source)
    assert other.weights != whole.weights


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("rank_forks")
def test_two_ranks_cross_the_border_together(root, tmp_path):
    """Gradients of what was frozen are averaged, too: the ranks end where one rank does."""
    plain = UserComponent(name=f"{CODE}:Plain")
    phases = {"freeze": "backbone", "unfreeze_after": 1}
    of = recipe(3, model=plain, init=phases, optimizer=SGDSpec(name="sgd", lr=0.05, momentum=0.9))
    one, single = trained(of, root, tmp_path / "1")
    two, double = trained(of, root, tmp_path / "2", ranks=2)
    for name, value in one.items():
        assert torch.allclose(two[name], value, atol=1e-5), name
    assert double.reports.keys() == single.reports.keys()
    assert double.reports[3 * STEPS]["val/loss"] == pytest.approx(single.reports[3 * STEPS]["val/loss"], rel=1e-4)


# a linear probe


def probe(**changes):
    return recipe(3, init=FROM | {"freeze": "backbone", "probe": True}, **changes)


def test_a_probe_on_kept_features_is_the_training_with_a_frozen_backbone(root, tmp_path, pretraining):
    """Same order, same head, same metrics up to the order of sums; and the file has the whole network."""
    _, source = pretraining
    usual, expected = trained(recipe(3, init=FROM | {"freeze": "backbone"}), root, tmp_path / "1", weights=source)
    kept, also = trained(probe(), root, tmp_path / "2", weights=source)
    assert kept.keys() == usual.keys()
    for name, value in usual.items():
        assert torch.allclose(kept[name], value, atol=1e-5), name
    for step, metrics in expected.reports.items():
        assert also.reports[step] == pytest.approx(metrics, rel=1e-4)


def test_features_are_computed_once_for_all_trials_on_one_backbone(root, tmp_path, pretraining, monkeypatch):
    _, source = pretraining
    train(probe(), root, weights=source)
    passes = []
    monkeypatch.setattr(transfer_code.Staged, "forward", counting(transfer_code.Staged.forward, passes))
    train(probe(optimizer=SGDSpec(name="sgd", lr=0.01)), root, weights=source)
    assert passes == [2, 2, 1]  # a look at two images of either split, and at one to count multiply-adds
    train(probe(model=UserComponent(name=f"{CODE}:Staged", slope=0.1)), root, weights=source)
    assert sum(passes[3:]) > 200  # another network with the same weights


def counting(forward, passes):
    def counted(self, x):
        passes.append(len(x))
        return forward(self, x)

    return counted


def test_a_probe_that_was_cut_goes_on_with_the_same_features(root, tmp_path, pretraining):
    _, source = pretraining
    whole, expected = train(probe(), root, weights=source)
    messages = TrialMessages(leave_at=STEPS + 10)
    with pytest.raises(Preempted):
        train(probe(), root, tmp_path, source, messages)
    messages.leave_at = None
    again, _ = train(probe(), root, tmp_path, None, messages)
    assert again == whole
    assert messages.reports == expected.reports


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": DigitsSpec.model_validate({"name": "digits", "train": {"flip": 0.5}})},
            r"data\.train\.flip makes other",
        ),
        ({"trainer": {"image_sizes": [[0, 8]]}}, r"trainer\.image_sizes changes the images"),
        ({"model": UserComponent(name=f"{CODE}:Softened")}, "does not end with its head, head"),
    ],
)
def test_what_cannot_be_probed_is_said(root, pretraining, changes, message):
    with pytest.raises(UserError, match=message):
        train(recipe(3, init={"freeze": "backbone", "probe": True}, **changes), root)


def test_an_autoencoders_encoder_goes_into_the_classification_network_and_back():
    from expflow.architectures import build
    from expflow.registry import MODELS
    from expflow.training.transfer.weight_loading import load_fitting_weights
    from tests.architectures.nets import data

    keys = {"depth": 8, "width": 4}
    torch.manual_seed(0)
    squeezed = build(MODELS.spec("autoencoder")(name="autoencoder", backbone="resnet", code=3, **keys), data(3, 16, 5))
    classifier = build(MODELS.spec("resnet")(name="resnet", **keys), data(3, 16, 5))
    weights = {name: value.clone() for name, value in squeezed.state_dict().items() if not name.startswith("head.")}
    load_fitting_weights(classifier, squeezed.state_dict(), head="new", origin="x")
    assert weights
    assert all(torch.equal(classifier.state_dict()[name], value) for name, value in weights.items())
    load_fitting_weights(squeezed, classifier.state_dict(), head="new", origin="x")
