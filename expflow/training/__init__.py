"""Training one trial. Importing this imports neither torch nor Lightning; :func:`run_trial` does when called."""

from expflow.training.contract import Attempt, Began, Fence, Outcome, Saved, World, run_trial

__all__ = ["Attempt", "Began", "Fence", "Outcome", "Saved", "World", "run_trial"]
