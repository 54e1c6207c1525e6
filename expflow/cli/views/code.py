"""What ``show --code`` prints: the source of the user's modules that a result was made with."""

from __future__ import annotations

from pathlib import Path

from expflow.cli.documents.code import code_document
from expflow.cli.documents.printing import print_document
from expflow.cli.echo import echo
from expflow.errors import AddressUnknown
from expflow.report import selected_row
from expflow.sweep.kept_code import kept_modules, write_modules
from expflow.sweep.result_location import find_results
from expflow.text import relative


def show_code(name: str, storage: str | None, out: Path | None, *, as_json: bool) -> None:
    """Print the user's modules that a result was made with, and write them where that is asked for.

    Args:
        name: Address of a trial or of an experiment, whose selected config is meant.
        storage: The folder of all results; None: the site's.
        out: The folder that they are written into; None: they are not.
        as_json: Whether JSON is printed.

    Raises:
        AddressUnknown: There is no such trial, or no config is complete.
    """
    location = find_results(name, storage)
    if location.which in (None, "best"):
        row = selected_row(location.state)
        if row is None:
            raise AddressUnknown(f"{location.name} has no trial at full budget yet, hence no best one")
        trials = list(row.trials)
    else:
        trials = [location.trial()]
    modules = kept_modules(location.folder, location.state, trials)
    written = write_modules(modules, out) if out is not None else []
    if as_json:
        print_document(code_document(name, modules, out))
        return
    if not modules:
        echo(f"{name} was made by expflow's own components alone")
    for module in modules:
        known = "" if module.source is not None else ", not kept: by an earlier expflow, or because it holds a secret"
        echo(f"# {module.path}, sha256 {module.sha256[:12]}{known}")
        if module.source is not None and out is None:
            echo(module.text)
    for file in written:
        echo(f"written  {relative(file)}")
