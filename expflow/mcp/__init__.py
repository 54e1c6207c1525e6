"""expflow for the programs that speak the Model Context Protocol: ``python -m expflow.mcp`` on stdin and stdout.

Its tools are the commands with ``--json`` (docs/agents.md). Listing, reading and planning are always there, starting
and stopping sweeps with ``--allow-run``. The test split is out of its reach: no tool evaluates on it.
"""
