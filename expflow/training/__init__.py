"""Training one trial. Importing this imports neither torch nor Lightning; :func:`run_trial` does when called."""

from expflow.training.contract import Attempt, Began, DeviceNeed, Fence, Outcome, Saved, World, device_need, run_trial

__all__ = ["Attempt", "Began", "DeviceNeed", "Fence", "Outcome", "Saved", "World", "device_need", "run_trial"]
