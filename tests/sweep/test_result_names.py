"""NAME, NAME.2, NAME.3: which results a command goes on with, and where fresh ones go."""

from __future__ import annotations

from pathlib import Path

from expflow.sweep.result_names import newest_name, unused_name
from tests.tracking.stories import write

FILE = Path("depth.yaml")


def results(root: Path, name: str, file: str = "elsewhere/depth.yaml") -> None:
    write(root / name, [], name=name, file=file)


def test_without_results_the_name_itself(tmp_path):
    assert newest_name(tmp_path, "depth", FILE) == "depth"
    assert unused_name(tmp_path, "depth") == "depth"


def test_the_newest_goes_on_and_the_next_is_fresh(tmp_path):
    for name in ("depth", "depth.2", "depth.3"):
        results(tmp_path, name)
    assert newest_name(tmp_path, "depth", FILE) == "depth.3"
    assert unused_name(tmp_path, "depth") == "depth.4"


def test_an_experiment_that_is_called_so_keeps_its_results(tmp_path):
    results(tmp_path, "depth")
    results(tmp_path, "depth.2", "depth.2.yaml")
    assert newest_name(tmp_path, "depth", FILE) == "depth"
    assert newest_name(tmp_path, "depth.2", Path("depth.2.yaml")) == "depth.2"
    assert unused_name(tmp_path, "depth") == "depth.3"
