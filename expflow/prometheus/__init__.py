"""What a driver tells Prometheus about its sweep while it works."""

from expflow.prometheus.exporter import exported
from expflow.prometheus.sweep_metrics import SweepMetrics

__all__ = ["SweepMetrics", "exported"]
