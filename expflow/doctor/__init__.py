"""What is installed and reachable, what is missing, and how to mend it. Reads metadata; imports no large library."""

from expflow.doctor.all_checks import DoctorTargets, run_checks
from expflow.doctor.check_result import CheckResult, CheckState, worst_state

__all__ = ["CheckResult", "CheckState", "DoctorTargets", "run_checks", "worst_state"]
