"""The shorter code around steps does what Lightning's does, and stands aside where it was not written for it."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.profilers import SimpleProfiler
from pytorch_lightning.trainer import call
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

from expflow.training import quick_lightning
from expflow.training.lightning_switches import quiet_arguments
from expflow.training.quick_lightning import REPLACEMENTS, quick_steps
from expflow.training.trainer_arguments import NoOpProfiler
from expflow.training.trial_logger import TrialLogger

pytestmark = pytest.mark.filterwarnings("ignore")  # advice of Lightning and torch, which trials do not see either


class Module(LightningModule):
    """Logs in every way that Lightning has, and takes one argument in its training step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.mean, self.hooks = nn.Linear(2, 1), MeanMetric(), list[tuple[str, str | None]]()

    def note(self, hook: str) -> None:
        self.hooks.append((hook, self._current_fx_name))

    def training_step(self, batch: Any) -> Tensor:
        self.note("training_step")
        loss: Tensor = self.layer(batch[0]).square().mean()
        self.log("loss", loss)
        self.log("both", loss, on_step=True, on_epoch=True, batch_size=len(batch[0]))
        self.log("largest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.mean.update(loss.detach())
        self.log("mean", self.mean, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.note("validation_step")
        self.log("val", self.layer(batch[0]).mean())

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.note("on_train_batch_start")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.note("on_before_optimizer_step")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watch(Callback):
    """Notes under which name of a hook it was called."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *arguments: Any, **named: Any) -> None:
        pl_module.note("callback on_train_batch_end")
        pl_module.log("from_callback", 1.0)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.note("callback on_validation_epoch_end")


def fitted(
    *, quick: bool, profiler: Any = None, kind: type[Module] = Module, **options: Any
) -> tuple[Module, dict[str, float]]:
    """A module after two epochs, and what it logged."""
    torch.manual_seed(0)
    module, loader = kind(), DataLoader(TensorDataset(torch.arange(10.0).reshape(5, 2)), batch_size=2)
    arguments = quiet_arguments(TrialLogger(), [Watch()]) | {"profiler": profiler or NoOpProfiler()}
    trainer = Trainer(max_epochs=2, accelerator="cpu", **arguments, **options)
    if quick:
        with quick_steps(trainer):
            trainer.fit(module, loader, loader)
    else:
        trainer.fit(module, loader, loader)
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_hooks_metrics_and_weights_are_lightnings() -> None:
    (slow, slow_metrics), (quick, quick_metrics) = fitted(quick=False), fitted(quick=True)
    assert quick.hooks == slow.hooks
    assert {hook for hook, _ in quick.hooks} >= {
        "training_step",
        "on_before_optimizer_step",
        "callback on_train_batch_end",
    }
    assert quick_metrics == slow_metrics
    assert slow_metrics.keys() >= {"loss", "both_step", "both_epoch", "largest", "mean", "val", "from_callback"}
    assert quick._current_fx_name == slow._current_fx_name
    assert torch.equal(quick.layer.weight, slow.layer.weight)


class OwnZeroGrad(Module):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        self.note("optimizer_zero_grad")
        if batch_idx:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)


class OwnBackward(Module):
    def backward(self, loss: Tensor, *arguments: Any, **named: Any) -> None:
        self.note("backward")
        (loss * 2).backward()


class OwnStep(Module):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        self.note("optimizer_step")
        optimizer_closure()
        if batch_idx:
            optimizer.step()


class OwnClipping(Module):
    def configure_gradient_clipping(self, optimizer: Any, *arguments: Any, **named: Any) -> None:
        self.note("configure_gradient_clipping")
        self.clip_gradients(optimizer, gradient_clip_val=0.01, gradient_clip_algorithm="value")


class SkipsABatch(Module):
    def training_step(self, batch: Any) -> Tensor:
        loss = super().training_step(batch)
        return None if batch[0][0, 0] == 0 else loss  # type: ignore[return-value]  # Lightning then steps without it


class MoreThanTheLoss(Module):
    def training_step(self, batch: Any) -> Any:
        return {"loss": super().training_step(batch), "more": 1}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.note(f"{outputs}")


class ManyClosures(Module):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class WrapsItsOptimizer(Module):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        wrapped: Any = LightningOptimizer(super().configure_optimizers())
        return wrapped


class LogsEverywhere(Module):
    def on_before_backward(self, loss: Tensor) -> None:
        self.log("before_backward", loss)

    def on_after_backward(self) -> None:
        self.note("on_after_backward")
        self.layer.weight.grad.mul_(2)  # type: ignore[union-attr]

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.note("on_before_zero_grad")

    def on_train_start(self) -> None:
        self.layer.weight.register_hook(lambda gradient: self.note("gradient"))


KINDS = [
    OwnZeroGrad,
    OwnBackward,
    OwnStep,
    OwnClipping,
    SkipsABatch,
    MoreThanTheLoss,
    ManyClosures,
    WrapsItsOptimizer,
    LogsEverywhere,
]
OPTIONS: list[dict[str, Any]] = [
    {"gradient_clip_val": 0.01},
    {"accumulate_grad_batches": 2},
    {"precision": "bf16-mixed"},
]


@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, {}) for kind in KINDS), *((Module, options) for options in OPTIONS)]
)
def test_what_a_module_or_a_trainer_changes_of_a_step_is_done(kind: type[Module], options: dict[str, Any]) -> None:
    (slow, slow_metrics), (quick, quick_metrics) = (
        fitted(quick=quick, kind=kind, **options) for quick in (False, True)
    )
    assert quick.hooks == slow.hooks
    assert quick_metrics == slow_metrics
    assert torch.equal(quick.layer.weight, slow.layer.weight)


@pytest.mark.parametrize(("kind", "steps"), [(Module, 6), (OwnZeroGrad, 0), (WrapsItsOptimizer, 0)])
def test_only_where_nobody_changes_a_step_it_is_ours(
    kind: type[Module], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, calls = quick_lightning._training_step, list[Any]()

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return ours(*arguments)

    monkeypatch.setattr(quick_lightning, "_training_step", counted)
    fitted(quick=True, kind=kind)
    assert len(calls) == steps


class Halves(LightningDataModule):
    """Halves what it loads as it goes to the device."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [part / 2 for part in batch]


class Adds(Module):
    """Adds to batches as they go to the device, where its data do not, too."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [part + 1 for part in batch]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        raise AssertionError("that of the data is called")

    def training_step(self, batch: Any) -> Tensor:
        self.note(f"{batch[0].tolist()}")
        return super().training_step(batch)


def test_hooks_for_batches_are_the_data_modules_or_the_modules() -> None:
    def fitted() -> list[tuple[str, str | None]]:
        module, arguments = Adds(), quiet_arguments(TrialLogger(), []) | {"profiler": NoOpProfiler()}
        trainer = Trainer(max_epochs=1, accelerator="cpu", **arguments)
        with quick_steps(trainer):
            trainer.fit(module, datamodule=Halves())
        return module.hooks

    assert fitted().count((f"{[[1.0, 1.0]] * 2}", "training_step")) == 2


def test_all_of_it_fits_the_lightning_that_is_installed() -> None:
    """Otherwise steps are slower: write the shorter code for the new version, and its digest."""
    assert [replacement.name for replacement in REPLACEMENTS if not replacement.fits] == []


def test_another_version_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    others = tuple(dataclasses.replace(replacement, source="another version") for replacement in REPLACEMENTS)
    monkeypatch.setattr(quick_lightning, "REPLACEMENTS", others)
    shorter = [replacement.shorter for replacement in others]
    with quick_steps(Trainer(accelerator="cpu", **quiet_arguments(TrialLogger(), []))):
        assert all(getattr(replacement.owner, replacement.name) not in shorter for replacement in others)


@pytest.mark.parametrize("quick", [True, False])
def test_it_stands_aside_for_a_profiler_and_a_log_that_are_read(quick: bool, caplog: pytest.LogCaptureFixture) -> None:
    profiler = SimpleProfiler()
    fitted(quick=quick, profiler=profiler)
    assert len(profiler.recorded_durations["[LightningModule]Module.optimizer_zero_grad"]) == 6
    with caplog.at_level(logging.DEBUG, logger=call.log.name):
        fitted(quick=quick)
    assert sum("calling lightning module hook: optimizer_zero_grad" in text for text in caplog.messages) == 6


def test_afterwards_lightning_is_as_before() -> None:
    def in_use() -> list[Any]:
        return [getattr(replacement.owner, replacement.name) for replacement in REPLACEMENTS]

    before = in_use()
    trainer = Trainer(accelerator="cpu", **quiet_arguments(TrialLogger(), []) | {"profiler": NoOpProfiler()})
    with quick_steps(trainer):
        assert in_use() == [replacement.shorter for replacement in REPLACEMENTS]
    assert in_use() == before
