"""Dates as people write them, and as ISO 8601 does: sequences with a known answer, made exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from expflow.data.augment import sample_random
from expflow.data.kinds.text import text_field, vocabulary_of
from expflow.data.permutation import permutation
from expflow.data.source_spec import Origin
from expflow.data.sources.base import SampleRef, SampleSource
from expflow.data.specs import WrittenDatesSpec

FIRST_DAY, DAYS = date(1950, 1, 1), 36_525
"""A century of days; no day is in two splits."""

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

FORMS = (
    "{day} {month} {year}",
    "{month} {day}, {year}",
    "{weekday}, {day} {month} {year}",
    "{short} {day} {year}",
    "{day}. {short}. {year}",
    "{day:02d}/{short}/{year}",
    "{year} {month} {day}",
    "day {day} of {month} {year}",
)
"""Ways to write a date. In none of them day and month could be taken for each other."""

NOTE = "these dates are made: a day of a century, written in one of eight ways, beside ISO 8601"


def written(day: date, form: int) -> str:
    """Return a date as people write it.

    Args:
        day: the date.
        form: which of :data:`FORMS`.
    """
    month = MONTHS[day.month - 1]
    return FORMS[form].format(day=day.day, month=month, short=month[:3], year=day.year, weekday=WEEKDAYS[day.weekday()])


@dataclass(frozen=True)
class DateWriter:
    """Writes a date from its sample's name alone; it can be sent to other processes.

    Attributes:
        seed: of the forms.
    """

    seed: int

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Write one date."""
        number = int(item.name)
        day = FIRST_DAY + timedelta(days=number)
        form = sample_random.integer(sample_random.sample_key(self.seed, 1, number), 0, len(FORMS))
        return {"source": written(day, form), "target": day.isoformat()}


def open_written_dates(spec: WrittenDatesSpec, origin: Origin) -> SampleSource:
    """Open dates in words and in ISO 8601.

    Args:
        spec: the recipe's source.
        origin: not used: the dates are made.
    """
    days = permutation(DAYS, spec.date_seed).tolist()
    splits, first = {}, 0
    for split, number in (("train", spec.train_dates), ("val", spec.val_dates), ("test", spec.test_dates)):
        splits[split] = [SampleRef(str(day)) for day in days[first : first + number]]
        first += number
    year = [FIRST_DAY + timedelta(days=number) for number in range(DAYS)]
    texts = [written(day, form) for day in year[:400] for form in range(len(FORMS))]
    digits = "0123456789"
    longest = max(len(text) for text in texts)
    return SampleSource(
        classes=(),
        fields={"source": "source.txt", "target": "target.txt"},
        shapes={
            "source": text_field(vocabulary_of([*texts, digits]), longest),
            "target": text_field(vocabulary_of([digits, "-"]), len("2000-01-01")),
        },
        splits=splits,
        read=DateWriter(spec.date_seed),
        portable=True,
        notes=(NOTE,),
    )
