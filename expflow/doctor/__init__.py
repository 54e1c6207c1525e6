"""What is installed and reachable, what is missing, and how to mend it. Reads metadata; imports no large library."""

from expflow.doctor.check import Check, State, worst
from expflow.doctor.examine import Surroundings, examine

__all__ = ["Check", "State", "Surroundings", "examine", "worst"]
