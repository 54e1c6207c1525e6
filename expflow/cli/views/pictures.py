"""What ``show --filters``, ``--confusion``, ``--worst`` and the pictures of a network's inside print."""

from __future__ import annotations

from pathlib import Path

from expflow.cli.views.tracking import catch_up_mlflow
from expflow.live.console import LiteralConsole
from expflow.report import write_report
from expflow.report.config_selection import first_selected_trial
from expflow.report.formatting import trial_label
from expflow.report.trial_pictures import InsidePictures, draw_trial_pictures, save_trial_pictures, write_pictures
from expflow.sweep.result_location import find_results
from expflow.text import relative


def show_pictures(
    name: str,
    storage: str | None,
    out: Path | None,
    *,
    filters: bool,
    confusion: bool,
    worst: bool,
    inside: InsidePictures | None = None,
) -> None:
    """Draw pictures of one finished trial, save them beside the trial, and print where they lie.

    Args:
        name: Address of a trial or of an experiment, of whose selected config the first seed is taken.
        storage: The folder of all results; None: the site's.
        out: A folder that gets a copy.
        filters: Whether the first layer's filters are drawn.
        confusion: Whether the confusion matrix is drawn.
        worst: Whether the best and worst predictions are drawn.
        inside: What is drawn of the inside of the network.

    Raises:
        AddressUnknown: There is no such trial, or no config is complete.
    """
    console, location = LiteralConsole(), find_results(name, storage)
    trial = first_selected_trial(location) if location.which in (None, "best") else location.trial()
    drawings = draw_trial_pictures(location, trial, filters=filters, confusion=confusion, worst=worst, inside=inside)
    places = save_trial_pictures(drawings, location, trial)
    if out is not None:
        places = write_pictures(drawings, out)
    console.print(f"{location.name}/{trial.trial}  {trial_label(trial)}", style="bold")
    for drawing, place in zip(drawings, places, strict=True):
        console.print(f"{drawing.name:8} {relative(place)}", soft_wrap=True)
        console.print(f"  {drawing.caption}")
    if unwritable := write_report(location.folder, location.state).unwritable:
        console.print(unwritable, style="yellow", soft_wrap=True)
    catch_up_mlflow(console, location)
