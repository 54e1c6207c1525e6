"""How the report writes numbers, metrics, keys and recipes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from expflow.config.identity import readable, value_words
from expflow.config.space import metric_mode
from expflow.errors import UserError
from expflow.ledger.header import Header
from expflow.report.statistics import Estimate

_SHARE = re.compile(r"(^|/|_)top\d+$")
_SPLITS = {"train": "train", "fit": "train", "val": "val", "test": "test"}
_SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}


def is_share(metric: str) -> bool:
    """Whether ``metric`` is a share of images, 0 to 1, that is written in percent (``val/top1``)."""
    return bool(_SHARE.search(metric))


def direction(metric: str, header: Header) -> Literal["max", "min"] | None:
    """What is better for ``metric``; None where nobody said. The sweep's own metric goes by the sweep's ``mode``."""
    if metric == header.metric:
        return "min" if header.mode == "min" else "max"
    try:
        return metric_mode(metric)
    except UserError:  # a metric of the user's own that the sweep is not judged by
        return None


def axis_label(metric: str, header: Header) -> str:
    """``val/top1 (%), higher is better``."""
    unit = " (%)" if is_share(metric) else ""
    better = {"max": ", higher is better", "min": ", lower is better", None: ""}[direction(metric, header)]
    return f"{metric}{unit}{better}"


def number(value: float) -> str:
    """``value`` with three significant digits: ``1.53``, ``0.0184``, ``0.00112``, ``12,400``."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def metric_value(metric: str, value: float, *, unit: bool = True) -> str:
    """``98.74 %`` for shares, three significant digits otherwise."""
    if not is_share(metric) or not math.isfinite(value):
        return number(value)
    return f"{100 * value:.2f}{' %' if unit else ''}"


def difference_value(metric: str, value: float, *, unit: bool = True) -> str:
    """A difference of two values: shares in percentage points, with a sign."""
    sign = "+" if value > 0 else ""
    if not is_share(metric):
        return sign + number(value)
    return f"{sign}{100 * value:.2f}{' points' if unit else ''}"


def interval(metric: str, found: Estimate, *, difference: bool = False) -> str:
    """``[97.10, 99.31]``, or an empty string where one seed allows none."""
    if found.low is None or found.high is None:
        return ""
    write = difference_value if difference else metric_value
    return f"[{write(metric, found.low, unit=False)}, {write(metric, found.high, unit=False)}]"


def p_value(p: float) -> str:
    """``= 0.013``, ``< 0.001``."""
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.2f}" if p >= 0.1 else f"= {p:#.2g}"


def count(value: float) -> str:
    """A number of parameters or multiply-adds: ``853 k``, ``125.5 M``."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """``6.7 s``, ``1 min 42 s``, ``3 h 5 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plural(amount: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def and_join(parts: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *head, last = list(parts) or [""]
    return f"{', '.join(head)} and {last}" if head else last


def config_label(values: Mapping[str, Any]) -> str:
    """A config in words: ``depth=56 shortcut=pad``; the base recipe where nothing is searched."""
    return readable(values) if values else "base recipe"


def recipe_words(header: Header, searched: Iterable[str]) -> str:
    """What a sentence must name (rule 7): optimizer, rate and budget, or that they were searched."""
    keys = set(searched)
    optimizer = header.recipe.get("optimizer")
    parts: list[str] = []
    if "optimizer" in keys or "optimizer.name" in keys:
        parts.append("optimizer searched")
    elif isinstance(optimizer, Mapping) and isinstance(optimizer.get("name"), str):
        parts.append(optimizer["name"])
    elif isinstance(optimizer, str):
        parts.append(optimizer)
    if "optimizer.lr" in keys:
        parts.append("rate searched")
    elif isinstance(optimizer, Mapping) and "lr" in optimizer:
        parts.append(f"rate {value_words(optimizer['lr'])}")
    trainer = header.recipe.get("trainer")
    if "trainer.epochs" in keys:
        parts.append("epochs searched")
    elif isinstance(trainer, Mapping) and "epochs" in trainer:
        parts.append(plural(int(trainer["epochs"]), "epoch"))
    return ", ".join(parts)


def coverage(metric: str, header: Header) -> str:
    """What an interval over seeds covers and what it does not (rule 3)."""
    split = _SPLITS.get(metric.split("/", 1)[0], "")
    samples = samples_of(header).get(split)
    if not samples:
        return "training seeds, not the choice of data"
    text = f"training seeds, not the choice of {samples:,} {_SPLIT_WORDS[split]} images"
    return f"{text}: one image is {100 / samples:.2g} points" if is_share(metric) else text


def samples_of(header: Header) -> dict[str, int]:
    """Split -> number of samples, as the data's preparation counted them; empty where the sweep needs no data."""
    spec = header.data.get("spec")
    found = header.data.get("samples") or (spec.get("samples") if isinstance(spec, Mapping) else None)
    return {str(split): int(n) for split, n in found.items()} if isinstance(found, Mapping) else {}
