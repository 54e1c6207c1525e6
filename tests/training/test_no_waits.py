"""A step of training asks the device for nothing: every number that the host reads would have it wait.

There is no device here, so what is counted are the operations that would wait on one.
"""

from collections import defaultdict

import pytest
import torch
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from expflow.config.schema import EarlyStopping
from expflow.config.spec import UserComponent
from expflow.data.augment.specs import TrainTransform
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.losses.specs import CrossEntropySpec
from expflow.optim.specs import CosineSpec, PlateauSpec
from expflow.tasks.specs import ClassificationSpec
from expflow.training.reporter import CHECK_EVERY
from tests.training.test_checkpoint_resume import recipe, train

READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "nonzero", "unique"}
"""Methods of tensors that hand a value to the host."""
SIZES_BY_VALUES = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "is_nonzero"}
"""Operations whose result, or its size, the host has to know."""
STEPS = 40


class Reads(TorchFunctionMode):
    """Notes what the host reads by methods; ``one_hot`` checks its labels on CPUs, and on no other device."""

    def __init__(self, note):
        super().__init__()
        self.note, self.checking = note, False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in READS and not self.checking:
            self.note(name)
        before, self.checking = self.checking, self.checking or name == "one_hot"
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.checking = before


class Operations(TorchDispatchMode):
    """Notes operations that wait, among them indexing by a mask."""

    def __init__(self, note, reads):
        super().__init__()
        self.note, self.reads = note, reads

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if (name in SIZES_BY_VALUES or by_mask) and not self.reads.checking:
            self.note(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache")).root


@pytest.fixture
def waits(monkeypatch):
    """Number of a batch in the trial -> what was read in its step, from asking for it to its last hook."""
    reads_by_step, step, advance = defaultdict(set), 0, _TrainingEpochLoop.advance

    def watched(loop, data_fetcher):
        nonlocal step
        step += 1

        def note(name):
            reads_by_step[step].add(name)

        reads = Reads(note)
        with reads, Operations(note, reads):
            advance(loop, data_fetcher)

    monkeypatch.setattr(_TrainingEpochLoop, "advance", watched)
    return reads_by_step


def busy(**changes):
    """A trial that does much in its steps: an epoch of 40 batches."""
    mixing = TrainTransform(mixup=0.2, cutmix=1.0, flip=0.5)
    usual = {
        "data": DigitsSpec(name="digits", batch_size=10, limit=10 * STEPS, train=mixing),
        "task": ClassificationSpec(name="classification", penalty="l1"),
        "loss": CrossEntropySpec(name="cross_entropy", label_smoothing=0.1),
        "schedule": CosineSpec(name="cosine", warmup_epochs=0.5),
    }
    return recipe(**(usual | changes))


KEYS = {
    "everything": {"ema": 0.9, "clip_norm": 1.0, "image_sizes": [(0, 8)], "early_stopping": EarlyStopping()},
    "accumulated": {"accumulate": 2, "clip_value": 0.1},
    "half precision": {"precision": "bf16-mixed"},
}


@pytest.mark.parametrize("name", KEYS)
def test_the_host_looks_at_the_losses_now_and_then_and_at_nothing_else(root, waits, name):
    train(busy(epochs=1, trainer=KEYS[name]), root)
    assert waits == {CHECK_EVERY: {"tolist"}, STEPS: {"tolist"}}


def test_so_it_is_with_a_plateau(root, waits):
    train(busy(epochs=1, schedule=PlateauSpec(name="plateau", metric="val/loss")), root)
    assert set(waits) == {CHECK_EVERY, STEPS}


def test_a_loss_that_averages_by_itself_is_noticed(root, waits):
    plain = DigitsSpec(name="digits", batch_size=10, limit=50)
    train(busy(epochs=1, data=plain, loss=UserComponent(name="torch.nn:CrossEntropyLoss", reduction="mean")), root)
    assert {"index"} <= waits[1]


def test_what_ranks_would_ask_each_other_before_each_step_has_its_name_still():
    """``leave_signals_to_us`` takes its place."""
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)
