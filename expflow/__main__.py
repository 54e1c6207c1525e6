"""The command ``expflow``, which is ``python -m expflow``, too."""

from __future__ import annotations

from typing import NoReturn

from expflow.cli import main
from expflow.cli.process_end import end_process


def run() -> NoReturn:
    """Run the command of this process, and end the process with its exit code.

    Raises:
        SystemExit: For Python to end the process, as :func:`expflow.cli.process_end.end_process` does.
    """
    try:
        main()
    except SystemExit as left:
        if not isinstance(left.code, int | None):
            raise
        end_process(left.code or 0)
    end_process(0)


if __name__ == "__main__":
    run()
