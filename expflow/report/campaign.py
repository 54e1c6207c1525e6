"""A campaign: many tries, one after the other, to find something better than a reference; and its record.

A program that tries a hundred changes at 5 % each keeps a false one almost certainly. So the family is the campaign:
its try j is tested at the level 0.05 * 6 / (pi j)^2, whose sum over all tries is 0.05, however many follow. A try is
written into the campaign's record before it is trained: it has had its level, whatever becomes of it.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from expflow.errors import LedgerDamaged
from expflow.intervals import deviation, mean_error, t_quantile
from expflow.plain_data import plain_data
from expflow.report.image_differences import ImageTest
from expflow.report.sequential import SeedsNeeded, seeds_for
from expflow.report.statistics import ALPHA, paired_test

FOLDER = "campaigns"
"""Beside the results."""

TryVerdict = Literal["better", "not_better", "not_resolved"]
EXIT_CODES: dict[TryVerdict, int] = {"better": 0, "not_better": 10, "not_resolved": 11}


@dataclass(frozen=True)
class TryResult:
    """What a try gave.

    Attributes:
        verdict: ``better``; ``not_better`` where it is not better by the margin; ``not_resolved`` otherwise.
        n: Number of common seeds.
        difference: The mean of the try less that of the reference, in the metric's own unit.
        low: Lower end of the one-sided interval at the try's level, as of a metric of which more is better.
        high: Upper end.
        p: One-sided probability of a difference as large, were the try not better; None where there is no spread.
        p_other_images: The same for other images; None where no values per image are kept.
        holds_for: For which images the verdict holds.
        seeds_needed: How many seeds would resolve such a difference at the next try; None where it is resolved.
    """

    verdict: TryVerdict
    n: int
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_other_images: float | None
    holds_for: Literal["these_images", "other_images", "no_images"]
    seeds_needed: SeedsNeeded | None = None


@dataclass(frozen=True)
class CampaignTry:
    """A try.

    Attributes:
        number: From 1.
        at: When it was declared (unix seconds).
        name: Name of its results.
        file: The experiment file.
        config: Its config's id.
        reference: Name of the reference's results.
        reference_config: The reference's config id.
        seeds: The seeds of both.
        metric: What is compared.
        level: Its level.
        margin: By how much it must be better; None where none was given.
        hypothesis: What the file expects (``about``).
        code: The user's own modules: path -> sha256.
        result: What it gave; None while it is not trained.
    """

    number: int
    at: float
    name: str
    file: str
    config: str
    reference: str
    reference_config: str
    seeds: tuple[int, ...]
    metric: str
    level: float
    margin: float | None = None
    hypothesis: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    result: TryResult | None = None

    @property
    def identity(self) -> tuple[str, str, tuple[int, ...], float | None, dict[str, str]]:
        """What makes it the same try when it is asked for again; other code makes another one."""
        return self.config, self.reference_config, self.seeds, self.margin, dict(self.code)


def try_level(number: int) -> float:
    """The level of a campaign's try: 0.05 * 6 / (pi j)^2.

    Args:
        number: Which try it is, from 1.
    """
    return ALPHA * 6 / (math.pi * number) ** 2


def judge_try(
    differences: Sequence[float],
    number: int,
    *,
    margin: float | None = None,
    over: ImageTest | None = None,
    on_images: bool = True,
    overlap: float = 0.0,
) -> TryResult:
    """Whether a try is better than its reference.

    Args:
        differences: Of each common seed, the try less the reference; more is better.
        number: Which try of its campaign it is, from 1.
        margin: By how much it must be better to be of interest: below it ``not_better`` can be said.
        over: The test of the same differences for other images with a margin of 0, where what is kept allows one.
        on_images: Whether the metric is measured on images at all.
        overlap: What the trainings have in common, where each has a split of its own
            (:func:`~expflow.intervals.mean_error`).
    """
    level, n = try_level(number), len(differences)
    mean = math.fsum(differences) / n
    if n < 2 or (spread := deviation(differences)) == 0.0:
        return TryResult("not_resolved", n, mean, None, None, None, None, _scope(False, on_images))
    test = paired_test(differences, [0.0] * n, 0.0, overlap)
    half = t_quantile(1 - level, n - 1) * mean_error(spread, n, overlap)
    verdict: TryVerdict = "not_resolved"
    if test.p is not None and test.p <= level:
        verdict = "better"
    elif margin is not None and mean + half < margin:
        verdict = "not_better"
    p_images = test.p if overlap else None
    if over is not None and over.p is not None and test.p is not None:
        p_images = max(test.p, over.p)
    holds = verdict == "better" and p_images is not None and p_images <= level
    needed = None
    if verdict == "not_resolved" and test.effect is not None:
        needed = seeds_for(test.effect, n, try_level(number + 1), one_sided=True, overlap=overlap)
    return TryResult(verdict, n, mean, mean - half, mean + half, test.p, p_images, _scope(holds, on_images), needed)


def _scope(holds: bool, on_images: bool) -> Literal["these_images", "other_images", "no_images"]:
    if not on_images:
        return "no_images"
    return "other_images" if holds else "these_images"


def all_tries(storage: Path) -> Iterator[CampaignTry]:
    """The tries of all campaigns.

    Args:
        storage: The folder of all results.
    """
    for path in sorted((storage / FOLDER).glob("*.jsonl")):
        yield from CampaignRecord(storage, path.stem).tries()


class CampaignRecord:
    """The tries of a campaign, in an append-only file of JSON lines beside the results.

    Args:
        storage: The folder of all results.
        name: The campaign's name.
    """

    def __init__(self, storage: Path, name: str) -> None:
        self.path = storage / FOLDER / f"{name}.jsonl"

    def tries(self) -> list[CampaignTry]:
        """All tries, in their order.

        Raises:
            LedgerDamaged: A line does not read.
        """
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        tries: dict[int, CampaignTry] = {}
        for place, line in enumerate(lines, start=1):
            if not line.endswith(b"\n") and place == len(lines):
                break  # its writer was killed in the middle of it
            try:
                entry = json.loads(line)
                if "config" in entry:
                    tries[entry["number"]] = _try_of(entry)
                else:
                    tries[entry["number"]] = replace(tries[entry["number"]], result=_result_of(entry["result"]))
            except (ValueError, KeyError, TypeError) as error:
                raise LedgerDamaged(f"{self.path}:{place}: no line of a campaign ({error!r})") from error
        return list(tries.values())

    def declare(self, wanted: CampaignTry) -> CampaignTry:
        """Write a try down before it is trained; the same one again is the one that there is.

        Args:
            wanted: The try; its number, level and time are given here.
        """
        with self._locked():
            known = self.tries()
            same = next((other for other in known if other.identity == wanted.identity), None)
            if same is not None:
                return same
            number = len(known) + 1
            made = replace(wanted, number=number, level=try_level(number), at=round(time.time(), 3))
            entry = plain_data(made)
            del entry["result"]
            self._append(entry)
            return made

    def conclude(self, number: int, result: TryResult) -> None:
        """Write down what a try gave.

        Args:
            number: Its number.
            result: What it gave.
        """
        with self._locked():
            self._append({"number": number, "result": plain_data(result)})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _append(self, entry: Mapping[str, Any]) -> None:
        """Write one line, behind the last whole one, durably."""
        with self.path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _try_of(entry: Mapping[str, Any]) -> CampaignTry:
    known = {one.name for one in fields(CampaignTry)}
    values = {key: value for key, value in entry.items() if key in known and key != "result"}
    return CampaignTry(**{**values, "seeds": tuple(values["seeds"])})


def _result_of(entry: Mapping[str, Any]) -> TryResult:
    known = {one.name for one in fields(TryResult)}
    values = {key: value for key, value in entry.items() if key in known}
    needed = values.get("seeds_needed")
    return TryResult(**{**values, "seeds_needed": SeedsNeeded(**needed) if needed else None})
