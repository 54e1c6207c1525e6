"""What of a report is the same whenever and wherever a trial is trained."""

MEASURED = frozenset({"cost/seconds", "cost/peak_bytes"})
"""Metrics that depend on the machine of the moment."""


def comparable(metrics):
    """The metrics without what is measured."""
    return {name: value for name, value in metrics.items() if name not in MEASURED}
