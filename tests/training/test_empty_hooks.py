"""Hooks of a step that do nothing are left out, those of somebody's own are called, and afterwards all is as before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from expflow.training.empty_hooks import STEP_HOOKS, without_empty_hooks
from expflow.training.lightning_switches import quiet_arguments
from expflow.training.trial_logger import TrialLogger


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.called = nn.Linear(2, 1), list[str]()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(batch[0]).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def on_after_backward(self) -> None:
        self.called.append("on_after_backward")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watch(Callback):
    def __init__(self, name: str) -> None:
        self.name, self.called = name, list[str]()

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.called.append("on_train_batch_end")


def fit(module: LightningModule, callbacks: list[Callback]) -> None:
    loader = DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)
    trainer = Trainer(max_epochs=1, accelerator="cpu", **quiet_arguments(TrialLogger(), callbacks))
    trainer.fit(module, loader, loader)


@pytest.mark.filterwarnings("ignore")  # advice of Lightning and torch, which trials do not see either
def test_lightning_calls_what_is_overridden_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = list[str]()
    for base in (Callback, LightningModule):
        for hook in STEP_HOOKS:
            monkeypatch.setattr(base, hook, lambda *arguments, hook=hook, **named: empty.append(hook))
    module, watch, set_later = Module(), Watch("watch"), Callback()
    set_later.on_before_zero_grad = lambda *arguments: watch.called.append("set")  # type: ignore[method-assign]
    with without_empty_hooks([module, watch, set_later]):
        fit(module, [watch, set_later])
    assert empty == []
    assert module.called == ["on_after_backward"] * 2
    assert watch.called == ["set", "on_train_batch_end"] * 2
    fit(module, [watch])  # outside it is as Lightning has it
    assert set(empty) == set(STEP_HOOKS)


def test_afterwards_all_is_as_before_also_what_was_set_meanwhile() -> None:
    module, watch = Module(), Watch("watch")
    before = dict(vars(module)), dict(vars(watch))
    with without_empty_hooks([module, watch]):
        assert module.on_before_backward is None
        watch.on_after_backward = print  # type: ignore[method-assign, assignment]
    assert watch.__dict__.pop("on_after_backward") is print
    assert (dict(vars(module)), dict(vars(watch))) == before
