"""The command line: arguments, calls and rendering, no logic.

``commands`` holds the arguments, ``views`` what is printed. Nothing in ``commands`` may import more than typer and the
standard library before a command runs: only so ``expflow --help`` and shell completion answer in under 0.3 s.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import expflow
from expflow.cli.commands import about, cluster, data, models, results, run
from expflow.cli.echo import echo, print_unencodable
from expflow.cli.views.errors import as_unwritable, report_bug, report_error
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

for _group in (run, cluster, results, data, models, about):
    _group.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"expflow {expflow.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that stand before the verb."""


def _warn_of_variables() -> None:
    """Name variables that look like expflow's and are misspelt: whoever set them counts on them."""
    if any(name.startswith("EXPFLOW_") for name in os.environ):
        from expflow.config.variables import unknown_variables

        for line in unknown_variables(os.environ):
            echo(line, err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code, as ``--help`` lists them.

    Args:
        arguments: The command's words; by default the process's own.
    """
    print_unencodable()
    words = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in words
    try:
        if not as_json and not {"-h", "--help", "--version"} & set(words):
            _warn_of_variables()
        # For programs the errors of the command line itself are raised here, too, instead of printed by typer.
        code = app(args=arguments, prog_name="expflow", standalone_mode=not as_json)
        if as_json:
            sys.exit(code if isinstance(code, int) else 0)
    except ExpflowError as error:
        left = report_error(error, as_json=as_json)
        if error.at_once:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(left)
        sys.exit(left)
    except OSError as error:
        if (unwritable := as_unwritable(error)) is None:
            sys.exit(report_bug(error, as_json=as_json))
        sys.exit(report_error(unwritable, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  the outermost frame: whatever got here is a bug, and is reported as one
        sys.exit(report_bug(error, as_json=as_json))
