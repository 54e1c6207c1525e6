"""The first line of every ledger segment: what the driver that wrote it was asked to do, and in what surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

LEDGER_FORMAT = 1


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
    """What the searcher was told of an earlier sweep: ``values`` and ``score`` of each config."""
    searcher: str = "grid"
    scheduler: str = "none"
    metric: str = "val/top1"
    mode: str = "max"
    select: str = "last"
    report: Mapping[str, Any] = field(default_factory=dict)
    """Figures and contrasts (:class:`expflow.config.schema.ReportPlan` as plain data)."""
    expected_trials: int = 0
    """Number of trials of this plan, where the searcher knows it; else 0."""
    devices: float = 1.0
    """Devices that one trial occupies."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """``key``, ``manifest`` (sha256), ``source``, ``spec`` (DataSpec as plain data), ``samples``."""
    weights: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each ``init.from`` led to: ``id``, ``origin`` in words, ``trial`` ("" for a file's), sha256 of ``files``."""
    code: Mapping[str, str] = field(default_factory=dict)
    """The user's own modules: path -> sha256."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """expflow, python and the packages that results depend on."""
    git: Mapping[str, str] = field(default_factory=dict)
    """``commit`` and ``dirty`` ("yes"/"no") of the experiment's folder, empty outside a repository."""
    tracking: str = ""
    """The MLflow address this sweep is mirrored to."""
    driver: Mapping[str, Any] = field(default_factory=dict)
    """``epoch`` (raised by every start), ``host``, ``pid``."""

    def to_json(self) -> dict[str, Any]:
        """The header as plain data; :meth:`from_json` reads it back."""
        return {"event": "header", "format": LEDGER_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Header:
        """The header that ``data`` describes; unknown fields of a newer expflow are ignored."""
        known = {each.name for each in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        for key in ("sets", "space", "seeds", "warm_start"):
            if key in values:
                values[key] = tuple(values[key])
        return cls(**values)
