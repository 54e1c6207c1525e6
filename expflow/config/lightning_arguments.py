"""Arguments of Lightning's Trainer that ``trainer.lightning`` may not set, and what says the same in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

DECIDED: Mapping[str, str] = {
    "max_epochs": "trainer.epochs says how long to train",
    "check_val_every_n_epoch": "trainer.validate_every says how often to validate",
    "accelerator": "resources say what a trial runs on",
    "devices": "resources.ranks says how many processes train together, each on one device",
    "num_nodes": "resources.ranks says how many processes train together, on as many machines as they need",
    "callbacks": 'name them under trainer.callbacks: [{name: "package.module:Name"}]',
    "plugins": "trainer.precision chooses numbers, and checkpoints are written by trainer.checkpoint",
    "logger": "self.logger is there, and what is logged by it joins the trial's reports and artifacts",
    "enable_checkpointing": "trainer.checkpoint says when to save; a ModelCheckpoint goes under trainer.callbacks",
    "enable_progress_bar": "the sweep's live table shows the progress of all trials",
    "enable_model_summary": "`expflow models` shows layers, parameters and multiply-adds",
    "num_sanity_val_steps": "`expflow plan` tries batches before anything is started",
    "overfit_batches": "limit_train_batches with a loader that does not shuffle trains on the same batches",
    "barebones": "what it turns off, reports and checkpoints need",
}
"""Argument to what decides it."""

OWN_MEANING = frozenset({"strategy", "use_distributed_sampler"})
"""Arguments that may be set, and that expflow reads itself: how ranks train together, and who shares the loaders."""

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
"""Strategies that may be named: those by which the ranks of a trial train the same network on other samples."""


def refused_arguments(lightning: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What of ``trainer.lightning`` is refused.

    Args:
        lightning: The arguments.

    Yields:
        The argument, and why.
    """
    for argument, value in lightning.items():
        if argument in DECIDED:
            yield argument, f"it cannot be set here: {DECIDED[argument]}"
        elif argument == "strategy" and value not in STRATEGIES:
            yield (
                argument,
                (f"the ranks of a trial train by DDP, so expected one of {', '.join(STRATEGIES)}; found {value!r}"),
            )
        elif argument == "use_distributed_sampler" and not isinstance(value, bool):
            yield argument, f"expected true or false, found {value!r}"
