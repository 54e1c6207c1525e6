"""What expflow turns off or decides in Lightning, all of it, and what does the same instead or refuses it.

Every Trainer of expflow's (of a trial, an evaluation, a measurement) is made with :func:`quiet_arguments`. What a file
may not say under ``trainer.lightning`` stands in :mod:`expflow.config.lightning_arguments`, since that is refused
without importing Lightning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class Switch:
    """Something of Lightning's that does not run as it would by itself.

    Attributes:
        name: An argument of its Trainer, or what it does.
        instead: What does it in expflow, or refuses it.
    """

    name: str
    instead: str


ARGUMENTS: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}
"""Arguments of every Trainer, by which Lightning leaves something to expflow."""

SWITCHES = (
    Switch("enable_progress_bar", "the live table of the sweep; a ProgressBar callback of the user's is left out"),
    Switch("enable_model_summary", "`expflow models` and `plan`, which show layers, parameters and multiply-adds"),
    Switch("num_sanity_val_steps", "`expflow plan`, which runs batches before anything is paid for"),
    Switch("use_distributed_sampler", "training/shared_loaders.py: each rank takes its part, or the loader is refused"),
    Switch("logger", "training/trial_logger.py: metrics join the reports, pictures and tables become artifacts"),
    Switch("enable_checkpointing", "trainer.checkpoint; a ModelCheckpoint of the user's writes beside it"),
    Switch("default_root_dir", "the trial's own folder, so that trials do not write over each other's files"),
    Switch("profiler", "step times are measured by `plan`; trainer.lightning.profiler turns one of Lightning's on"),
    Switch("max_epochs, check_val_every_n_epoch", "trainer.epochs and trainer.validate_every"),
    Switch("accelerator, devices, num_nodes", "resources: each rank is a node of one device to Lightning"),
    Switch("strategy", "DDP where resources.ranks is above 1; others are refused when the file is read"),
    Switch("plugins", "trainer.precision, and expflow's own checkpoint files; refused when the file is read"),
    Switch("SIGTERM handler and its broadcast", "the rank saves, and leaves when all ranks have agreed to"),
    Switch("variables of launchers (SLURM_*, RANK)", "hidden from a trial; resources say what it runs on"),
    Switch("prepare_data_per_node", "training/data_preparation.py: the first rank of each machine, a trial at a time"),
    Switch("sync_dist=False", "training/rank_metrics.py: what ranks log of a user's module is joined over them"),
    Switch("advice in warnings and logs", "left out: it is for who writes the Trainer's arguments by hand"),
    Switch("checkpoints that are pickled", "plain tensors and JSON; objects in them are refused by name"),
)
"""The whole list. ``docs/python.md`` shows it, and a test compares the two."""


def quiet_arguments(logger: Logger, callbacks: list[Callback]) -> dict[str, Any]:
    """The arguments that all Trainers of expflow's share.

    Args:
        logger: What modules find as ``self.logger``.
        callbacks: The Trainer's callbacks; Lightning adds no ModelCheckpoint of its own to them.
    """
    checkpoints = any(isinstance(callback, Checkpoint) for callback in callbacks)
    return {**ARGUMENTS, "logger": logger, "callbacks": callbacks, "enable_checkpointing": checkpoints}
