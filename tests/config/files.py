"""Experiments for the tests of configuration."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from expflow.config import LoadedExperiment, load
from expflow.errors import ExperimentInvalid

BASE = """\
data: digits
model: {name: resnet, depth: 20}
task: classification
optimizer: {name: sgd, lr: 0.1}
"""


def write(folder: Path, text: str, name: str = "exp.yaml") -> Path:
    file = folder / name
    file.write_text(dedent(text))
    return file


def loaded(folder: Path, text: str, sets=()) -> LoadedExperiment:
    return load(write(folder, text), sets)


def problems(folder: Path, text: str, sets=(), *, check: bool = False) -> list[str]:
    """What is said about the file, with the folder left out."""
    file = write(folder, text)
    with pytest.raises(ExperimentInvalid) as error:  # noqa: PT012 - either of the two may refuse
        experiment = load(file, sets)
        if check:
            experiment.check()
    return [str(problem).replace(f"{folder}/", "") for problem in error.value.problems]
