"""A rank's share of a GPU: it is held to it, it is told so when that is not enough, and what it needs is measured."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from expflow.config.resources import Resources
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.errors import Diverged, OutOfMemory, UserError
from expflow.tasks.specs import ScriptedSpec
from expflow.training import Attempt, DeviceNeed, World, device_need, run_trial
from expflow.training.contract import trials_per_gpu
from expflow.training.local_ranks import local_world
from expflow.training.memory_limits import explained_out_of_memory
from tests.training import user_code

HALF = World(gpus=1, trials_per_gpu=2, gpu_memory=0.48)


class Noted(user_code.Plain):
    """Notes its batches, and may end as trials end."""

    batches: ClassVar[list[int]] = []

    def __init__(self, fail: str = "") -> None:
        super().__init__()
        self.fail = fail

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.batches.append(batch_idx)
        if self.fail == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        if self.fail == "nan":
            raise Diverged("the loss became nan")
        if self.fail == "code":
            raise ValueError("wrong shape")
        return super().training_step(batch, batch_idx)


def recipe(fail: str = "", epochs: int = 5) -> Recipe:
    data = UserComponent(name=f"{user_code.__name__}:Blobs")  # four batches an epoch
    return Recipe(data=data, task=UserComponent(name=f"{__name__}:Noted", fail=fail), trainer=Trainer(epochs=epochs))


@pytest.fixture
def fractions(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The shares of the GPU that torch is set to."""
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    return shares


@pytest.mark.parametrize(
    ("share", "trials"), [(0, 1), (0.0833, 12), (0.1428, 7), (0.3, 3), (0.5, 2), (0.6, 1), (1, 1), (2, 1)]
)
def test_trials_at_once_on_a_gpu(share: float, trials: int) -> None:
    assert trials_per_gpu(share) == trials


# Without a GPU, Lightning refuses to train on one; with one, the trial is trained. Either way the share was set before.
@pytest.mark.parametrize(("world", "shares"), [(HALF, [0.48, 1.0]), (World(gpus=1), []), (World(gpu_memory=0.5), [])])
def test_a_trial_is_held_to_its_share_and_the_next_one_is_not(
    fractions: list[float], world: World, shares: list[float]
) -> None:
    trains = torch.cuda.is_available() or not world.gpus
    with nullcontext() if trains else pytest.raises(MisconfigurationException, match="gpu backend"):
        run_trial(Attempt(recipe(epochs=1), 0), world, lambda report: True)
    assert fractions == shares


def test_whoever_runs_out_of_a_share_is_told_of_the_others() -> None:
    words = r"whose memory 2 trials share \(48% for each\).*a larger resources.gpus_per_rank gives more"
    with pytest.raises(OutOfMemory, match=words), explained_out_of_memory(recipe(), HALF):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(OutOfMemory) as alone, explained_out_of_memory(recipe(), World(gpus=1)):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    assert "share" not in str(alone.value)


@pytest.mark.parametrize(
    ("asked", "world"),
    [
        (0.25, World(gpus=1, trials_per_gpu=4, gpu_memory=0.25)),
        (1.0, World(gpus=1)),
        ("measured", World(gpus=1)),  # one trial has nothing to share
    ],
)
def test_one_trial_here_takes_the_share_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch, asked: Any, world: World
) -> None:
    monkeypatch.setattr("expflow.training.local_ranks._gpus_here", lambda: 1)
    assert local_world(Resources(gpus_per_rank=asked)) == world
    monkeypatch.setattr("expflow.training.local_ranks._gpus_here", lambda: 0)
    with pytest.raises(UserError, match=r"gpus_per_rank: 0 to train on the CPU"):
        local_world(Resources(gpus_per_rank=asked))


# measuring


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A GPU's counters: 30 of 100 bytes in use, 20 of them torch's, who had 25 at its highest. Steps are the CPU's."""
    asked: list[str] = []

    def counter(name: str, answer: Any) -> None:
        monkeypatch.setattr(torch.cuda, name, lambda: asked.append(name) or answer)

    for name in ("init", "empty_cache", "reset_peak_memory_stats"):
        counter(name, None)
    counter("mem_get_info", (70, 100))
    counter("memory_reserved", 20)
    counter("max_memory_reserved", 25)
    Noted.batches.clear()
    return asked


def test_a_few_real_steps_are_measured(card: list[str]) -> None:
    assert device_need(Attempt(recipe(), 0), World()) == DeviceNeed(peak=25, context=10, total=100)
    assert Noted.batches == [0, 1, 2, 3, 0, 1]  # between the epochs lie the other two, of validation
    assert card.index("empty_cache") < card.index("reset_peak_memory_stats") < card.index("max_memory_reserved")


def test_a_short_trial_is_measured_to_its_end(card: list[str]) -> None:
    assert device_need(Attempt(recipe(epochs=1), 0), World()).peak == 25
    assert Noted.batches == [0, 1, 2, 3]


def test_no_peak_is_known_of_what_runs_out_of_memory(card: list[str]) -> None:
    assert device_need(Attempt(recipe("memory"), 0), World()) == DeviceNeed(None, 10, 100)


def test_what_diverges_has_taken_its_memory_too(card: list[str]) -> None:
    assert device_need(Attempt(recipe("nan"), 0), World()).peak == 25


def test_what_fails_for_another_reason_says_it(card: list[str]) -> None:
    with pytest.raises(ValueError, match="wrong shape"):
        device_need(Attempt(recipe("code"), 0), World())


@pytest.mark.parametrize(("share", "peak"), [(0.25, 2**28), (1.5, None)])
def test_the_script_says_what_it_needs(share: float, peak: int | None) -> None:
    asked = Recipe(task=ScriptedSpec(name="scripted", gpu_memory=share), trainer=Trainer(epochs=1))
    assert device_need(Attempt(asked, 0), World()) == DeviceNeed(peak, 0, 2**30)
