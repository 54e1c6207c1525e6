"""Training one trial. Importing this imports neither torch nor Lightning; :func:`run_trial` does when called."""

from expflow.training.contract import (
    Artifact,
    Attempt,
    Began,
    DeviceNeed,
    Fence,
    Outcome,
    Saved,
    SystemMeasurement,
    World,
    device_need,
    run_trial,
)

__all__ = [
    "Artifact",
    "Attempt",
    "Began",
    "DeviceNeed",
    "Fence",
    "Outcome",
    "Saved",
    "SystemMeasurement",
    "World",
    "device_need",
    "run_trial",
]
