"""The first line of every ledger segment.

A driver begins with a :class:`Header`: what it was asked to do, with which versions and data. Where its ledger goes on
in a further segment because the one before grew too large or too old, that begins with a :class:`Continuation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from expflow.field_types import check_field_types, checked_fields
from expflow.ledger.header_entries import check_entries
from expflow.metrics import UNDECLARED_MAIN_METRIC

LEDGER_FORMAT = 2
"""Format 1 had neither numbered lines nor digests; it is read, and continued in format 2."""


@dataclass(frozen=True)
class Header:
    """One driver's start. Everything is plain data, so that reports and tracking need the ledger and nothing else."""

    name: str
    """The experiment's name."""
    text: str
    """The experiment file as it was read, before ``extends`` and ``--set``."""
    file: str
    """Where that file lay."""
    sets: tuple[str, ...] = ()
    """The ``--set`` arguments."""
    command: str = ""
    """What to type to continue."""
    plan: str = ""
    """Hash of what is searched (space, searcher, seeds, base recipe): another plan starts another set of trials."""
    search: str = ""
    """Hash of what the searcher's proposals depend on. While it stays, an edited plan goes on with its searcher."""
    about: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The base recipe, resolved, as it would be written in YAML."""
    space: tuple[Mapping[str, Any], ...] = ()
    """The searched dimensions (:class:`expflow.config.schema.Dimension` as plain data)."""
    seeds: tuple[int, ...] = (0,)
    confirm: Mapping[str, Any] = field(default_factory=dict)
    """``seeds`` and ``top`` where the leaders are trained again with seeds of their own; else empty."""
    warm_start: tuple[Mapping[str, Any], ...] = ()
    """Results of an earlier sweep that the searcher began with: ``values`` and ``score`` of each config."""
    searcher: str = "grid"
    scheduler: str = "none"
    metric: str = UNDECLARED_MAIN_METRIC
    mode: str = "max"
    select: str = "last"
    objectives: tuple[Mapping[str, str], ...] = ()
    """``metric`` and ``mode`` of each objective, the one above first; empty in older ledgers."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """What the network of a config may cost: ``params`` and ``macs``, those that are given."""
    arms: Mapping[str, Any] = field(default_factory=dict)
    """Of the searcher ``arms``: what was ``asked``, the ``children`` it led to, the ``sources`` that they are of."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """Figures and contrasts (:class:`expflow.config.schema.ReportSettings` as plain data)."""
    expected_trials: int = 0
    """Number of trials of this plan, where the searcher knows it; else 0."""
    configs: int = 0
    """Number of configs that the searcher proposes, where that was counted; else 0."""
    devices: float = 1.0
    """Devices that one trial occupies."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """``key``, ``manifest`` (sha256), ``source``, ``spec`` (DataSpec as plain data), ``samples``, ``bytes`` of all
    shards."""
    weights: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each ``init.from`` led to: ``id``, ``origin`` in words, ``trial`` ("" for a file's), sha256 of ``files``."""
    code: Mapping[str, str] = field(default_factory=dict)
    """The user's own modules: path -> sha256."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """expflow, python and the packages that results depend on."""
    git: Mapping[str, str] = field(default_factory=dict)
    """``commit`` and ``dirty`` ("yes"/"no") of the experiment's folder, empty outside a repository; ``changes``: sha256
    of the file ``changes.diff``."""
    tracking: str = ""
    """The MLflow address this sweep is mirrored to."""
    driver: Mapping[str, Any] = field(default_factory=dict)
    """``epoch`` (raised by every start), ``host``, ``pid``."""
    before: tuple[Mapping[str, Any], ...] = ()
    """Digests (:class:`~expflow.ledger.seal.SegmentDigest` as plain data) of the segments before this one that no
    earlier header holds: that of the last one, or of all where they are of format 1."""

    @property
    def samples(self) -> dict[str, int]:
        """Split -> number of samples, as the data's preparation counted them; empty where the sweep needs no data."""
        spec = self.data.get("spec")
        samples = self.data.get("samples") or (spec.get("samples") if isinstance(spec, Mapping) else None)
        return {str(split): int(n) for split, n in samples.items()} if isinstance(samples, Mapping) else {}

    @property
    def overlap(self) -> float:
        """Samples of val by those of train where each trial has a split of its own (``split_seed: trial``); else 0.

        What further trials tell is limited by it (:func:`expflow.intervals.mean_error`).
        """
        return split_overlap(self.recipe, self.samples)

    def measured_on(self, metric: str) -> int | None:
        """How many samples a metric is measured on; None where that is not known, or where it is measured on none.

        Args:
            metric: A reported name with its split.
        """
        split = metric.split("/", 1)[0]
        return self.samples.get("train" if split == "fit" else split) or None

    def to_json(self) -> dict[str, Any]:
        """The header as plain data; :meth:`from_json` reads it back."""
        return {"event": "header", "format": LEDGER_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Header:
        """The header that plain data describe; unknown fields of a newer expflow are ignored.

        Args:
            data: What :meth:`to_json` gave.

        Raises:
            TypeError: A field is missing, or is not of its type.
        """
        values = checked_fields(cls, data)
        check_entries(
            values.get("space", ()), values.get("report", {}), values.get("data", {}), values.get("objectives", ())
        )
        for key in ("sets", "space", "seeds", "warm_start", "objectives", "before"):
            if key in values:
                values[key] = tuple(values[key])
        return cls(**values)


def split_overlap(recipe: Mapping[str, Any], samples: Mapping[str, int]) -> float:
    """:attr:`Header.overlap` of a recipe.

    Args:
        recipe: The recipe as plain data.
        samples: Split -> number of samples.
    """
    data = recipe.get("data")
    if not isinstance(data, Mapping) or data.get("split_seed") != "trial" or not samples.get("train"):
        return 0.0
    return samples.get("val", 0) / samples["train"]


@dataclass(frozen=True)
class Continuation:
    """The first line of a segment in which a driver goes on with its ledger.

    Attributes:
        epoch: The driver's epoch.
        before: The digest of the segment before, as in :attr:`Header.before`.
    """

    epoch: int
    before: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """The line as plain data; :meth:`from_json` reads it back."""
        return {"event": "continued", "format": LEDGER_FORMAT, "epoch": self.epoch, "before": list(self.before)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Continuation:
        """The continuation that plain data describe.

        Args:
            data: What :meth:`to_json` gave.
        """
        check_field_types(cls, data)
        return cls(data["epoch"], tuple(data["before"]))


def epoch_of(first: Header | Continuation) -> int:
    """The epoch of the driver that wrote a segment.

    Args:
        first: The segment's first line.
    """
    epoch = first.epoch if isinstance(first, Continuation) else first.driver["epoch"]
    if not isinstance(epoch, int):
        raise TypeError(f"the epoch of its driver is {epoch!r}")
    return epoch
