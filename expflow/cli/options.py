"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expflow.cli.completion import complete_experiment_file, complete_result_name

File = Annotated[
    Path, typer.Argument(help="The experiment file.", show_default=False, autocompletion=complete_experiment_file)
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the file. May be given several times."),
]
# Text, not a path: an address such as s3://bucket would lose a slash.
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|ADDRESS",
        help="Where all results lie, also s3://bucket/path; by default what the key storage of the file says, else that"
        " of the site file (EXPFLOW_STORAGE), else ./runs.",
    ),
]
Result = Annotated[
    str,
    typer.Argument(
        help="NAME, NAME/best, NAME/3fa9 (a trial), s3://bucket/path/NAME, or the file.",
        show_default=False,
        autocompletion=complete_result_name,
    ),
]
MaybeResult = Annotated[
    str | None, typer.Argument(help="NAME or file.", show_default=False, autocompletion=complete_result_name)
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Answer with one JSON object; `expflow schema --of NAME` prints its schema.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The Ray head's dashboard; by default RAY_API_SERVER_ADDRESS, the key ray of the site file"
        " (EXPFLOW_RAY), or http://127.0.0.1:8265.",
        show_default=False,
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="CLUSTER",
        help="A cluster of the site file, or a launcher: ray, slurm, ssh; by default the site file's key cluster.",
        show_default=False,
    ),
]
