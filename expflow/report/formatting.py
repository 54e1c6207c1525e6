"""How the report writes numbers, metrics, keys and recipes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from expflow.config.identity import config_text, value_text
from expflow.errors import UserError
from expflow.events import GpuSharingMeasured
from expflow.intervals import Estimate
from expflow.ledger.header import Header
from expflow.ledger.state import TrialState
from expflow.metrics import is_share, metric_mode, metric_value, number, sample_step, unit_of
from expflow.text import escape_line

_SPLITS = {"train": "train", "fit": "train", "val": "val", "test": "test"}
_SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
_AXIS_UNITS = {"share": " (%)", "points": " (points)", "seconds": " (s)", "bytes": " (bytes)"}


def direction(metric: str, header: Header) -> Literal["max", "min"] | None:
    """Which direction of a metric is better. The sweep's own metric goes by the sweep's ``mode``.

    Args:
        metric: A reported name with its split.
        header: The sweep's header.

    Returns:
        None for a metric of the user's own that the sweep is not judged by.
    """
    if metric == header.metric:
        return "min" if header.mode == "min" else "max"
    try:
        return metric_mode(metric)
    except UserError:
        return None


def axis_label(metric: str, header: Header) -> str:
    """``val/top1 (%), higher is better``.

    Args:
        metric: A reported name with its split.
        header: The sweep's header, which knows the direction of its own metric.
    """
    unit = _AXIS_UNITS.get(unit_of(metric), "")
    better = {"max": ", higher is better", "min": ", lower is better", None: ""}[direction(metric, header)]
    return f"{metric}{unit}{better}"


def difference_value(metric: str, value: float, *, unit: bool = True) -> str:
    """A difference of two values with its sign; that of shares in percentage points: ``+1.20 points``.

    Args:
        metric: The metric that both values are of.
        value: The difference; that of shares from -1 to 1.
        unit: Whether ``points`` is written.
    """
    sign = "+" if value > 0 else ""
    if not is_share(metric):
        return sign + number(value)
    return f"{sign}{100 * value:.2f}{' points' if unit else ''}"


def interval(metric: str, estimate: Estimate, *, difference: bool = False) -> str:
    """``[97.10, 99.31]``, or an empty string where one seed allows none.

    Args:
        metric: The metric that the estimate is of.
        estimate: A mean and its interval.
        difference: Whether the estimate is of a difference, whose ends carry signs.
    """
    if estimate.low is None or estimate.high is None:
        return ""
    write = difference_value if difference else metric_value
    return f"[{write(metric, estimate.low, unit=False)}, {write(metric, estimate.high, unit=False)}]"


def percent(level: float) -> str:
    """``4 %``, ``1.3 %``: a level, to two digits.

    Args:
        level: A probability.
    """
    return f"{100 * level:.2g} %"


def p_value(p: float) -> str:
    """``= 0.013``, ``< 0.001``.

    Args:
        p: A probability.
    """
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.2f}" if p >= 0.1 else f"= {p:#.2g}"


def count(value: float) -> str:
    """A number of parameters or multiply-adds, to four digits: ``853.0 k``, ``125.5 M``; whole below a thousand.

    Args:
        value: The number.
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:#.4g}".rstrip(".") + f" {unit}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time in words: ``0.012 s``, ``6.7 s``, ``1 min 42 s``, ``3 h 5 min``.

    Args:
        seconds: The time.
    """
    if 0 < seconds < 0.95:
        return f"{seconds:.2g} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short_duration(seconds: float) -> str:
    """A time for a narrow column: ``75`` -> ``1m15s``, ``0.93`` -> ``0.9s``, ``0.01`` -> ``<0.1s``.

    Args:
        seconds: The time.
    """
    if 0 < seconds < 0.05:
        return "<0.1s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def size(amount: float) -> str:
    """An amount of bytes, to three digits: ``992 MB``; in units of 1000.

    Args:
        amount: Bytes.
    """
    for unit, length in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= 0.9995 * length:
            return f"{amount / length:.3g} {unit}"
    return f"{amount:.0f} bytes"


def measured_value(metric: str, value: float) -> str:
    """A value of a metric with its unit, to be read by itself: ``992 MB``, ``6.7 s``, ``98.74 %``, ``2``.

    Args:
        metric: A reported name with its split.
        value: The value.
    """
    unit = unit_of(metric)
    if not math.isfinite(value):
        return metric_value(metric, value)
    if unit == "bytes":
        return size(value)
    if unit == "seconds":
        return duration(value)
    return f"{value:,.0f}" if float(value).is_integer() and not is_share(metric) else metric_value(metric, value)


def plural(amount: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``, ``1,000 seeds``.

    Args:
        amount: How many there are.
        noun: Its singular; the plural has an s.
    """
    return f"{amount} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def and_join(parts: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``.

    Args:
        parts: The members of the enumeration.
    """
    *head, last = list(parts) or [""]
    return f"{', '.join(head)} and {last}" if head else last


def config_label(values: Mapping[str, Any]) -> str:
    """A config in words: ``depth=56 shortcut=pad``; the base recipe where nothing is searched.

    Args:
        values: Searched key -> value.
    """
    return escape_line(config_text(values)) if values else "base recipe"


def trial_label(trial: TrialState) -> str:
    """``depth=56 shortcut=pad s0``.

    Args:
        trial: The trial; its seed stands behind its config.
    """
    return f"{config_label(trial.values)} s{trial.seed}"


MAX_STEPS = "trainer.lightning.max_steps"
"""The key that ends trials after so many steps."""


def recipe_words(header: Header, searched: Iterable[str]) -> str:
    """What a sentence about results names as held fixed: optimizer, rate and budget, or that they were searched.

    Args:
        header: The sweep's header with its base recipe.
        searched: The searched keys.
    """
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
        parts.append(f"rate {value_text(optimizer['lr'])}")
    trainer = header.recipe.get("trainer")
    return ", ".join([*parts, *_budget_words(trainer if isinstance(trainer, Mapping) else {}, keys)])


def _budget_words(trainer: Mapping[str, Any], searched: set[str]) -> Iterator[str]:
    """How long trials train; what may end one earlier makes it ``at most``."""
    limits = trainer.get("lightning") or {}
    steps = limits.get("max_steps", -1)
    sooner = steps >= 0 or bool(limits.get("max_time")) or bool(trainer.get("early_stopping"))
    if "trainer.epochs" in searched:
        yield "epochs searched"
    elif "epochs" in trainer:
        yield ("at most " if sooner else "") + plural(int(trainer["epochs"]), "epoch")
    if MAX_STEPS in searched:
        yield "steps searched"
    elif steps >= 0:
        yield f"at most {plural(steps, 'step')}"


def coverage(metric: str, header: Header) -> str:
    """What an interval over seeds covers, and what it does not.

    Args:
        metric: A reported name with its split.
        header: The sweep's header, which knows how many samples the split has.
    """
    samples = header.measured_on(metric)
    if not samples:
        return "training seeds, not the choice of data"
    if header.overlap and metric.startswith("val/"):
        return f"training seeds and the choice of {images_words(metric, samples)}, which each seed has of its own"
    text = f"training seeds, not the choice of {images_words(metric, samples)}"
    step = sample_step(metric, samples)
    return text if step is None else f"{text}: one image is {100 * step:.2g} points"


def images_words(metric: str, samples: int) -> str:
    """``397 validation images``.

    Args:
        metric: The metric that was measured on them.
        samples: How many there are.
    """
    word = _SPLIT_WORDS.get(_SPLITS.get(metric.split("/", 1)[0], ""), "")
    return f"{samples:,} {word} images" if word else f"{samples:,} images"


def is_measured_on_images(metric: str) -> bool:
    """Whether a metric is measured on a split, and not on the training itself, as its time is.

    Args:
        metric: A reported name with its split.
    """
    return metric.split("/", 1)[0] in _SPLITS


def gpu_sharing(event: GpuSharingMeasured) -> str:
    """``measured 3.1 GiB of 80.0 GiB for depth=56: 12 trials at once on each GPU``.

    Args:
        event: What was measured.
    """
    which = f" for {event.config}" if event.config else ""
    total = f"{event.total / 2**30:.1f} GiB"
    if event.peak is None:
        measured = f"measured more than the GPU's {total}{which}"
    else:
        measured = f"measured {(event.peak + event.context) / 2**30:.1f} GiB of {total}{which}"
    more = f" (it has memory for {event.fits})" if event.fits > event.at_once else ""
    return f"{measured}: {event.at_once} {'trial' if event.at_once == 1 else 'trials'} at once on each GPU{more}"
