"""The command line: arguments, calls and rendering, no logic.

Each module here holds the commands of one group and a ``register`` that adds them to the app. Nothing in them may
import more than typer and the standard library before a command runs: ``expflow --help`` and shell completion answer
in under 0.3 s only so.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import expflow
from expflow.cli import about, data, look, models, remote, run
from expflow.cli.failing import report_bug, report_error
from expflow.errors import ExpflowError

app = typer.Typer(
    name="expflow",
    help="Sweeps of vision experiments: one YAML file, one command, honest conclusions.",
    epilog="Exit codes: 0 all done; 1 some trials failed; 2 the experiment or the call is wrong; "
    "3 something outside is missing; 130 or 143 stopped with everything saved.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help costs as long again as everything else at start
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

for _group in (run, remote, look, data, models, about):
    _group.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"expflow {expflow.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that stand before the verb."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code (design section 9). ``arguments``: by default the process's own."""
    try:
        app(args=arguments, prog_name="expflow")
    except ExpflowError as error:
        sys.exit(report_error(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  the last frame there is: whatever got here is a bug, and is said to be one
        sys.exit(report_bug(error))
