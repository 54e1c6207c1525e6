"""expflow from Python: the same experiments, plans and sweeps as on the command line, results as tables.

:func:`load` reads an experiment file, :func:`results` finds what a sweep left. Nothing is drawn or printed here, except
the progress of a sweep where it is asked for; every error is one of :mod:`expflow.errors`.
"""

from expflow.api.experiment import ExperimentHandle, load
from expflow.api.tables import Results, results

__all__ = ["ExperimentHandle", "Results", "load", "results"]
