"""Sweeps: what is planned, who runs it, and what is recorded. Ray is imported only when a sweep runs."""
