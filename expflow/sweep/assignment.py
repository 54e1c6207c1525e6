"""What a gang is made of, and what it is given to do: data that the driver sends to the ranks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from expflow.config.schema import Recipe
from expflow.storage.trial_folder import StoredTrial
from expflow.training.contract import BatchCheck
from expflow.training.transfer.pretrained import PretrainedWeights
from expflow.training.transfer.trained_classifier import TrainedClassifier


@dataclass(frozen=True)
class GangShape:
    """What one gang is made of.

    Attributes:
        ranks: Processes of the gang.
        cpus_per_rank: CPUs that Ray reserves for each of them.
        gpus_per_rank: GPUs of each, also a share of one.
        gpu_memory: Share of a GPU's memory that torch may take in a rank.
        paths: Folders that are put before the ranks' import path; relative ones are seen from the ranks' working
            folder.
        warm: Modules that a rank imports before its first trial.
    """

    ranks: int = 1
    cpus_per_rank: int = 1
    gpus_per_rank: float = 0
    gpu_memory: float = 1.0
    paths: tuple[str, ...] = ()
    warm: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """One trial for a gang.

    Attributes:
        trial: The trial's id.
        attempt: Number of the next attempt, from 1.
        recipe: What is trained.
        seed: The trial's seed.
        folder: The trial's own folder.
        data_root: Folder of the prepared shards; None where the task needs no data.
        data_content: What the manifest there says of its samples.
        experiment: Folder of all results of the experiment.
        epoch: The driver's epoch: what an attempt of an older one writes is refused.
        forks: How often the trial took over another one's weights.
        weights: Weights of another training to begin with.
        features: The classifier in whose features its metrics compare images.
        labeller: The classifier whose classes are the labels of the train split.
        judged_by: The metric that the trial is judged by.
        lockstep: Whether each report waits for the driver's decision.
        log_bytes: Most bytes of a rank's log.
        check: What is tried of the recipe before it is trained; None: nothing.
        addresses: Signed addresses of the data, which stand in no file.
        stored: Where the trial's folder lies in a store; None where all nodes see ``folder``.
        gangs: How many gangs of one rank it needs together; 1: a gang of its own.
    """

    trial: str
    attempt: int
    recipe: Recipe
    seed: int
    folder: str
    data_root: str | None = None
    data_content: str = ""
    experiment: str | None = None
    epoch: int = 0
    forks: int = 0
    weights: PretrainedWeights | None = None
    features: TrainedClassifier | None = None
    labeller: TrainedClassifier | None = None
    judged_by: str = ""
    lockstep: bool = True
    log_bytes: int = 10_000_000
    check: BatchCheck | None = None
    addresses: tuple[str, ...] = field(default=(), repr=False)
    stored: StoredTrial | None = None
    gangs: int = 1

    def next_attempt(self) -> Assignment:
        """The same trial, tried once more."""
        number = self.attempt + 1
        stored = replace(self.stored, attempt=number, is_new=False) if self.stored is not None else None
        return replace(self, attempt=number, stored=stored)


@dataclass(frozen=True)
class RankPlace:
    """Where a rank runs.

    Attributes:
        node: Ray's id of the node.
        host: The node's name.
        pid: The process's id there.
        mark: What it has marked its children with.
    """

    node: str
    host: str
    pid: int
    mark: str


def rank_file(folder: Path, kind: str, rank: int) -> Path:
    """A text file of one rank in its trial's folder; that of rank 0 has the kind's name.

    Args:
        folder: The trial's folder.
        kind: ``log`` or ``stacks``.
        rank: The rank's number.
    """
    return folder / (f"{kind}-rank{rank}.txt" if rank else f"{kind}.txt")
