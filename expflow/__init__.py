"""expflow: distributed experiment orchestration for vision research."""

__version__ = "0.1.0"
