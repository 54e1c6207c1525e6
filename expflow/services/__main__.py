"""``python -m expflow.services up|status|down``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from expflow.errors import ExpflowError
from expflow.live.console import LiteralConsole
from expflow.services.stack import SERVICES, ServiceStack
from expflow.services.stack_folder import StackFolder


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's entry.

    Args:
        arguments: The command line; by default that of the process.

    Returns:
        The exit code: 0; 1 where ``status`` sees a service that has ended; 3 where something is missing.
    """
    options = _parser().parse_args(arguments)
    console = LiteralConsole()
    try:
        stack = ServiceStack(StackFolder(options.folder), lambda line: console.print(line, soft_wrap=True))
        if options.verb == "status":
            return _print_status(console, stack)
        if options.verb == "down":
            stack.down(options.services)
            return 0
        stack.up(options.services, {} if options.port is None else {"mlflow": options.port})
        _print_usage(console, stack)
    except ExpflowError as error:
        LiteralConsole(stderr=True).print(f"error: {error}", soft_wrap=True)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [service.name for service in SERVICES]
    parser = argparse.ArgumentParser(prog="python -m expflow.services", description="The servers of a group, here.")
    parser.add_argument("verb", choices=("up", "status", "down"), help="start, look at, or end them")
    parser.add_argument(
        "services", nargs="*", type=_service_name, metavar="SERVICE", help=f"of {', '.join(names)}; by default all"
    )
    parser.add_argument("--folder", type=Path, default=_usual_folder(), help="data, logs and passwords (%(default)s)")
    parser.add_argument("--port", type=int, help="MLflow's port, 5000 at first; 0 takes any that is free")
    return parser


def _service_name(name: str) -> str:
    """Checks a name: argparse's own choices refuse a list that is empty."""
    names = [service.name for service in SERVICES]
    if name not in names:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(names)}")
    return name


def _usual_folder() -> Path:
    # Root's home is closed to the user that PostgreSQL runs as then.
    states = "/var/lib" if os.geteuid() == 0 else os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(states) / "expflow" / "services"


def _print_status(console: LiteralConsole, stack: ServiceStack) -> int:
    code = 0
    for name, address, runs in stack.status():
        console.print(f"{name:<11} {address if runs else 'stopped'}", soft_wrap=True)
        code = code if runs else 1
    return code


def _print_usage(console: LiteralConsole, stack: ServiceStack) -> None:
    for name, address, runs in stack.status():
        if name == "mlflow" and runs:
            console.print(f"\nexport MLFLOW_TRACKING_URI={address}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
