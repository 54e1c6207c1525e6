"""What lies on the disk: verified before it is used, never run, and given up by rule."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from expflow.architectures.specs.mlp import MLPSpec
from expflow.config.identity import config_id
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.errors import CheckpointDamaged, CheckpointMismatch, CheckpointUnsafe, CheckpointUnsaveable, UserError
from expflow.losses.specs import CrossEntropySpec
from expflow.optim.specs import (
    ConstantSpec,
    CosineSpec,
    MultiStepSpec,
    OneCycleSpec,
    PlateauSpec,
    SGDSpec,
    StepSpec,
    TriangularSpec,
)
from expflow.tasks.specs import ClassificationSpec
from expflow.training import Attempt, Began, Saved, World, run_trial
from expflow.training.checkpoints import adopt_checkpoint, list_checkpoints, select_checkpoint, verify_checkpoint
from expflow.training.checkpoints.schedule_extension import schedule_allows_extension
from expflow.training.checkpoints.storage import CheckpointDraft, CheckpointManifest, prune_checkpoints
from expflow.training.checkpoints.tensor_files import load_tensors, plain_data, read_weights
from tests.training import resumed_code, user_code

CODE, USER = resumed_code.__name__, user_code.__name__


def recipe(epochs=1, schedule=None, hidden=8, checkpoint=None, task=None):
    return Recipe(
        data=UserComponent(name=f"{USER}:Blobs"),
        model=MLPSpec(name="mlp", hidden=hidden),
        task=task or ClassificationSpec(name="classification"),
        loss=CrossEntropySpec(name="cross_entropy"),
        optimizer=SGDSpec(name="sgd", lr=0.1),
        schedule=schedule or ConstantSpec(name="constant"),
        trainer=Trainer.model_validate({"epochs": epochs, "checkpoint": checkpoint or {}}),
    )


def own(task):
    nothing = {"model": None, "loss": None, "optimizer": None, "schedule": None}
    return recipe(task=UserComponent(name=f"{CODE}:{task}")).model_copy(update=nothing)


ATTEMPT = Attempt(recipe(), seed=3)


def write(parent, step, content=b"weights", **changes):
    """A checkpoint of :data:`ATTEMPT`'s trial with two files."""
    draft = CheckpointDraft(parent, step)
    draft.write("weights.pt", lambda file: file.write(content * step))
    draft.write("state-0.pt", lambda file: file.write(b"state" * step))
    manifest = CheckpointManifest(step, config_id(ATTEMPT.recipe), seed=3)
    draft.commit(replace(manifest, **changes), (), lambda: None)
    return draft.final


@pytest.fixture
def trial(tmp_path):
    """A trial's folder with checkpoints at steps 1, 2 and 3."""
    for step in (1, 2, 3):
        write(tmp_path / "checkpoints", step)
    return tmp_path


def chosen(trial, **changes):
    return select_checkpoint(replace(ATTEMPT, folder=trial, **changes))


# what is damaged


def torn(path):
    (path / "state-0.pt").write_bytes(b"")


def truncated(path):
    data = (path / "weights.pt").read_bytes()
    (path / "weights.pt").write_bytes(data[:-1])


def flipped(path):
    data = bytearray((path / "weights.pt").read_bytes())
    data[3] ^= 1
    (path / "weights.pt").write_bytes(data)


def lost(path):
    (path / "weights.pt").unlink()


def unnamed(path):
    (path / "manifest.json").unlink()


def half_a_manifest(path):
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text[: len(text) // 2])


def another_step(path):
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"step": 3', '"step": 4'))


def no_manifest_at_all(path):
    (path / "manifest.json").write_text("[1, 2]")


def swapped(path):
    other = path.with_name("step-000000002")
    shutil.copy(other / "weights.pt", path / "weights.pt")


def newer(path):
    data = json.loads((path / "manifest.json").read_text()) | {"format": 2}
    (path / "manifest.json").write_text(json.dumps(data))


DAMAGES = {
    torn: "state-0.pt has 0 bytes, its manifest says 15",
    truncated: "weights.pt has 20 bytes, its manifest says 21",
    flipped: "weights.pt is not what was written",
    lost: "weights.pt does not read: No such file",
    unnamed: "has no manifest.json",
    half_a_manifest: "manifest.json does not read",
    another_step: "manifest.json is not what was written",
    no_manifest_at_all: "manifest.json does not read",
    swapped: "weights.pt has 14 bytes",
    newer: "has format 2; this expflow reads up to 1",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_named_and_the_one_before_is_taken(trial, damage):
    damage(trial / "checkpoints" / "step-000000003")
    with pytest.raises(CheckpointDamaged, match=DAMAGES[damage]):
        verify_checkpoint(trial / "checkpoints" / "step-000000003")
    choice = chosen(trial)
    assert choice.step == 2
    assert len(choice.refused) == 1
    assert "step-000000003" in choice.refused[0]


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.integers(0, 2))
def test_no_single_bit_goes_unnoticed(tmp_path_factory, place, bit, name):
    parent = tmp_path_factory.mktemp("checkpoints")
    path = write(parent, 2) / ("weights.pt", "state-0.pt", "manifest.json")[name]
    data = bytearray(path.read_bytes())
    index = int(place * len(data))
    data[index] ^= 1 << bit
    path.write_bytes(data)
    if name == 2 and json_equal(data, parent / "step-000000002"):
        return  # another space between the same values
    with pytest.raises(CheckpointDamaged):
        verify_checkpoint(path.parent)


def json_equal(data, path):
    """Whether the manifest still says the same."""
    write(path.parent / "again", 2)
    try:
        return json.loads(bytes(data)) == json.loads(
            (path.parent / "again" / "step-000000002" / "manifest.json").read_text()
        )
    except ValueError:
        return False


def test_all_damaged_is_a_fresh_start_that_says_so(trial):
    for path in list_checkpoints(trial / "checkpoints"):
        flipped(path)
    choice = chosen(trial)
    assert (choice.path, choice.step, len(choice.refused)) == (None, 0, 3)


def test_another_trials_checkpoint_is_not_taken(trial):
    write(trial / "checkpoints", 4, seed=4)
    write(trial / "checkpoints", 5, config="another")
    choice = chosen(trial)
    assert choice.step == 3
    assert "is of config another, seed 3: not this trial's" in choice.refused[0]
    assert chosen(trial, seed=4).step == 4


def test_after_a_fork_older_checkpoints_are_no_longer_its_own(trial, tmp_path):
    assert chosen(trial, forks=1).step == 0
    donor = write(tmp_path / "donor", 2, content=b"others")
    taken = chosen(trial, forks=1, resume=donor)
    assert (taken.path, taken.borrowed) == (donor, True)
    write(trial / "checkpoints", 1, forks=1)
    own_again = chosen(trial, forks=1, resume=donor)
    assert (own_again.step, own_again.borrowed) == (1, False)


def test_a_damaged_donor_falls_back_to_what_it_saved_before(tmp_path):
    write(tmp_path / "donor", 1)
    flipped(write(tmp_path / "donor", 2))
    choice = chosen(tmp_path / "own", resume=tmp_path / "donor" / "step-000000002")
    assert (choice.step, len(choice.refused)) == (1, 1)
    flipped(tmp_path / "donor" / "step-000000001")
    with pytest.raises(CheckpointDamaged, match="nothing to go on from"):
        chosen(tmp_path / "own", resume=tmp_path / "donor" / "step-000000002")


def test_an_adopted_checkpoint_outlives_its_source(trial, tmp_path):
    attempt = replace(ATTEMPT, recipe=recipe(hidden=9), seed=8, forks=2)
    path = adopt_checkpoint(trial / "checkpoints" / "step-000000003", tmp_path / "own", attempt=attempt)
    shutil.rmtree(trial / "checkpoints")
    choice = select_checkpoint(replace(attempt, folder=tmp_path / "own"))
    assert choice.path == path
    assert (path / "weights.pt").read_bytes() == b"weights" * 3


# what is pruned


def test_the_newest_are_kept_and_an_abandoned_course_is_not(tmp_path):
    for step in (1, 2, 3, 9):
        write(tmp_path, step)
    gone = prune_checkpoints(tmp_path, 2, tmp_path / "step-000000003")
    assert sorted(path.name for path in gone) == ["step-000000001", "step-000000009"]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000003", "step-000000002"]
    assert len(list(tmp_path.iterdir())) == 2


# what runs nothing


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def pickled(tree, path):
    path.write_bytes(pickle.dumps(tree))


@pytest.mark.parametrize("writer", [torch.save, pickled])
def test_a_file_that_would_run_code_is_refused_by_name(tmp_path, writer):
    file, trace = tmp_path / "weights.pt", tmp_path / "it ran"
    writer({"state_dict": {"weight": Harmful(str(trace))}}, file)
    with pytest.raises(CheckpointUnsafe, match=r"asks for (posix|os):mkdir, which is no tensor"):
        read_weights(file)
    assert not trace.exists()


def test_a_file_that_is_nothing_is_refused(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointDamaged, match=r"weights\.pt"):
        read_weights(tmp_path / "weights.pt")
    with pytest.raises(UserError, match="there are no weights"):
        read_weights(tmp_path / "absent.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds no state_dict"):
        read_weights(tmp_path / "list.pt")


def test_weights_come_out_of_every_kind_of_file(tmp_path):
    net = nn.Linear(2, 3)
    torch.save(net.state_dict(), tmp_path / "plain.pt")
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, tmp_path / "lightning.ckpt")
    for name in ("plain.pt", "lightning.ckpt"):
        assert torch.equal(read_weights(tmp_path / name)["weight"], net.weight)


def test_only_tensors_and_plain_data_are_saved():
    tree = {"a": [1, (2.5, None, "x")], 3: {"t": torch.ones(2)}, "n": np.float64(0.5), "s": {1}}
    kept = plain_data(tree, "state")
    assert kept["a"] == [1, (2.5, None, "x")]
    assert type(kept["n"]) is float
    with pytest.raises(CheckpointUnsaveable, match=r"state\.callbacks\.x\[1\] is a pathlib:PosixPath"):
        plain_data({"callbacks": {"x": [1, Path()]}}, "state")
    assert plain_data([Path()], "state", ("pathlib:PosixPath",)) == [Path()]


def test_what_a_module_keeps_is_refused_before_training_or_allowed_by_the_key(tmp_path):
    def train(allow):
        asked = own("KeepsAnObject")
        trainer = Trainer.model_validate({"epochs": 1, "checkpoint": {"allow": allow}})
        run_trial(
            Attempt(asked.model_copy(update={"trainer": trainer}), 0, folder=tmp_path), World(), lambda report: True
        )

    with pytest.raises(CheckpointUnsaveable, match=rf"checkpoint\.mine is a {CODE}:Opinion.*allow: \[{CODE}:O"):
        train([])
    train([f"{CODE}:Opinion"])
    [path] = list_checkpoints(tmp_path / "checkpoints")
    assert load_tensors(path / "state-0.pt", [f"{CODE}:Opinion"])["trainer"]["mine"].value == 3
    with pytest.raises(CheckpointUnsafe, match="Opinion"):
        load_tensors(path / "state-0.pt")


def test_another_architecture_is_refused_layer_by_layer(tmp_path):
    def train(hidden, **attempt):
        notices = []
        run_trial(Attempt(recipe(hidden=hidden), 0, **attempt), World(), lambda report: True, on_notice=notices.append)
        return [notice for notice in notices if isinstance(notice, Began | Saved)]

    saved = train(8, folder=tmp_path)[-1].path
    with pytest.raises(CheckpointMismatch) as error:
        train(9, resume=saved)
    assert "model.hidden1.weight: 8x64 in the checkpoint, 9x64 in the model" in str(error.value)
    assert isinstance(train(8, resume=saved)[0], Began)


# what can be extended


def test_schedules_that_span_the_training_cannot_be_extended():
    def reason(schedule):
        return schedule_allows_extension(recipe(5, schedule), recipe(10, schedule))

    for free in (
        ConstantSpec(name="constant"),
        StepSpec(name="step", every=2),
        MultiStepSpec(name="multi_step", at=[3]),
        TriangularSpec(name="triangular", half_cycle=2),
        PlateauSpec(name="plateau"),
    ):
        assert reason(free) is None
    assert "cosine plans its course by the length of the training, 5 epochs" in reason(CosineSpec(name="cosine"))
    assert "one_cycle" in reason(OneCycleSpec(name="one_cycle"))
    assert "is told the number of steps" in reason(UserComponent(name="mine:Own"))
    assert schedule_allows_extension(recipe(5, CosineSpec(name="cosine")), recipe(5, CosineSpec(name="cosine"))) is None
