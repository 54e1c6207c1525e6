"""What a user should know of the classes of a data set, from the numbers of samples alone. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

MOST_NAMED = 5
"""Classes that a note names."""


def structure_notes(
    classes: Sequence[str], counts: Mapping[str, Mapping[int, int]], unit: str = "sample"
) -> Iterator[str]:
    """Iterate over the notes: a single class, and classes without samples in a split.

    Args:
        classes: names of the classes, in the order of their numbers.
        counts: maps each split to the number of samples (of pixels where they are those of masks, of objects where
            there are boxes) of each class; numbers beyond those of the classes, as that of void, are passed over.
        unit: what was counted.
    """
    if len(classes) == 1 and unit != "object":
        yield f"all {unit}s are of one class, {classes[0]}: a classifier learns nothing from them"
    counts = {
        split: {label: n for label, n in counted.items() if label < len(classes)} for split, counted in counts.items()
    }
    train = counts.get("train", {})
    for split, counted in counts.items():
        expected = range(len(classes)) if split == "train" else sorted(train)
        if absent := [label for label in expected if not counted.get(label)]:
            several = f" ({len(absent)} of {len(classes)} classes)" if len(absent) > 1 else ""
            hint = (
                "; if the labels count from 1, correct them: they count from 0"
                if split == "train" and absent == [0]
                else ""
            )
            yield f"{split} has no {unit} of class {_named(classes, absent)}{several}{hint}"
    if beyond := sorted({label for counted in counts.values() for label in counted if not train.get(label)}):
        yield f"classes without {unit}s in train have some in another split: {_named(classes, beyond)}"


def _named(classes: Sequence[str], labels: Sequence[int]) -> str:
    named = ", ".join(classes[label] for label in labels[:MOST_NAMED])
    return f"{named}, …" if len(labels) > MOST_NAMED else named
