"""Users of verdicts who are simulated by the thousand, for ``false_calls.py``."""
