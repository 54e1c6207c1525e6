"""The documents say what is there: commands, targets, files, examples, reference pages."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from expflow.cli import app
from expflow.config import load

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / f"{name}README.md" for name in ("", "cluster/", "dashboards/")),
    *sorted((ROOT / "docs").glob("*.md")),
]
README = (ROOT / "README.md").read_text()
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page):
    return [line for block in blocks(page.read_text(), "sh") for line in block.splitlines() if line]


def targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def name_of(path):
    return str(path.relative_to(ROOT))


def test_the_makefile_has_its_targets():
    assert {"demo", "test", "lint", "format", "docs", "bench", "clean"} <= targets()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_the_documents_exist(page):
    root = typer.main.get_command(app)
    for line in commands(page):
        program, *arguments = shlex.split(line)
        if program == "make":
            assert set(arguments) <= targets(), line
        elif program == "expflow":
            command = root.commands[arguments[0]]
            below = getattr(command, "commands", {})
            if below and len(arguments) > 1 and not arguments[1].startswith("-"):
                command = below.get(arguments[1]) or below["compare"]  # `expflow models A B` compares
            known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
            assert {each for each in arguments[1:] if each.startswith("-")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_readme_shows_the_demo_as_it_is(tmp_path):
    (tmp_path / "resnet_depth.yaml").write_text(blocks(README, "yaml")[0])
    shown, real = load(tmp_path / "resnet_depth.yaml"), load(ROOT / "experiments" / "resnet_depth.yaml")
    assert shown.experiment.recipe == real.experiment.recipe
    assert shown.experiment.sweep == real.experiment.sweep


@pytest.fixture
def first_hour(tmp_path, monkeypatch):
    """The README's own-data, own-network example as files."""
    (tmp_path / "flowers.yaml").write_text(blocks(README, "yaml")[1])
    (tmp_path / "my_net.py").write_text(blocks(README, "python")[0])
    for number, kind in enumerate(("rose", "tulip")):
        (tmp_path / "flowers" / kind).mkdir(parents=True)
        for index in range(10):
            colour = (200 * number + index, 90, 5 * index)
            Image.new("RGB", (70, 90), colour).save(tmp_path / "flowers" / kind / f"{index}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readmes_own_example_plans(first_hour):
    done = subprocess.run(
        [sys.executable, "-m", "expflow", "plan", "flowers.yaml", "--no-time"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "width=32" in done.stdout.replace("model.", "")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_experiments_say_what_they_are_for_and_load(path):
    loaded = load(path)
    loaded.check()
    about = loaded.experiment.about
    assert about.question
    assert about.expect
    assert about.time
    assert about.command.startswith("expflow ")
    assert name_of(path) in about.command


def test_the_reference_of_commands_is_current(tmp_path):
    command = [sys.executable, "-m", "typer", "expflow.cli", "utils", "docs", "--name", "expflow"]
    written = tmp_path / "command.md"
    subprocess.run([*command, "--title", "The expflow command", "--output", written], check=True, capture_output=True)
    assert written.read_text() == (ROOT / "docs" / "reference" / "command.md").read_text(), "run `make docs`"


def test_constraints_are_names_and_versions_within_our_ranges():
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.+!]+", line) for line in lines)
    pinned = dict(line.split("==") for line in lines)
    for requirement in map(Requirement, requires("expflow")):
        if requirement.marker is None or 'extra == "dev"' in str(requirement.marker):
            assert requirement.specifier.contains(pinned[requirement.name.lower().replace(".", "-")]), requirement
