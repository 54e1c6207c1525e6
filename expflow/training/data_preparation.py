"""``prepare_data`` of a user's module: once on each machine and by one trial at a time, as its author expects.

To Lightning each rank of a trial is a node of its own (see :mod:`expflow.training.ranks`), so that all ranks of a
machine would prepare the same files at once; and so would the trials of a sweep that begin together there.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule

from expflow.config.identity import canonical_json
from expflow.data.stores.locks import exclusive_lock
from expflow.ledger.process_identity import ProcessIdentity
from expflow.training.contract import World
from expflow.training.ranks import gather_objects


def prepare_once(module: Any, name: str, arguments: Mapping[str, Any] | None, world: World) -> None:
    """Have a module's ``prepare_data`` run on the first rank of each machine alone, behind a lock of that machine.

    Lightning has the other ranks wait for it, and still asks ``prepare_data_per_node`` whether rank 0 alone calls it.

    Args:
        module: A LightningDataModule or LightningModule.
        name: Its class: those with the same name and arguments wait for each other.
        arguments: What it was made with; None where they say nothing of the data.
        world: This rank's place among the trial's ranks. All ranks have to call this.
    """
    if type(module).prepare_data is LightningDataModule.prepare_data:
        return
    here = ProcessIdentity.current()
    machines = gather_objects((here.host, here.machine, here.namespace), world)
    first = machines.index(machines[world.rank]) == world.rank
    prepare_data = module.prepare_data
    key = hashlib.sha256(canonical_json([name, arguments]).encode()).hexdigest()[:16]

    @functools.wraps(prepare_data)  # Lightning looks behind it for whether the user wrote one
    def prepare() -> None:
        if first:
            folder = Path(tempfile.gettempdir()) / f"expflow-{os.getuid()}"
            folder.mkdir(mode=0o700, exist_ok=True)
            with exclusive_lock(folder / f"prepare-{key}.lock"):
                prepare_data()

    module.prepare_data = prepare
