"""``python -m expflow.mcp``: the server on stdin and stdout."""

from __future__ import annotations

import argparse
import sys


def main() -> None:
    """Serve until stdin is closed."""
    parser = argparse.ArgumentParser("python -m expflow.mcp", description="expflow's commands as tools, over stdio.")
    parser.add_argument("--storage", help="Where all results lie; by default what the commands take.")
    parser.add_argument("--allow-run", action="store_true", help="Also offer tools that start and stop sweeps.")
    chosen = parser.parse_args()
    try:
        from expflow.mcp.server import build_server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("mcp", "anyio"):
            raise
        sys.exit("the MCP server needs the package mcp: pip install 'expflow[mcp]'")
    build_server(chosen.storage, allow_run=chosen.allow_run).run("stdio")


if __name__ == "__main__":
    main()
