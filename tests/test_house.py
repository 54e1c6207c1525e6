"""The documents say what is there: commands, targets, files, examples, reference pages."""

import ast
import re
import shlex
import subprocess
import sys
import tokenize
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
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            assert {argument for argument in arguments[1:] if argument.startswith("-")} <= known, line


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


def names_in(scope):
    """What a module or class binds, imports included, wherever the statement stands."""
    for node in ast.walk(scope):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Constant) and str(node.value).isidentifier():  # specs that are made from a table
            yield str(node.value)


def leads_somewhere(reference):
    """Whether a dotted path is a package, a module, or a name in one."""
    parts = reference.replace(":", ".").split(".")
    for count in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:count])
        source = next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
        if source is not None:
            return not parts[count:] or parts[count] in names_in(ast.parse(source.read_text()))
    return False


def prose_of(path):
    """(line, text) of a document's text, or of a source file's strings and comments."""
    if path.suffix == ".md":
        yield from enumerate(path.read_text().splitlines(), 1)
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.STRING, tokenize.COMMENT):
                yield token.start[0], token.string


REFERENCE = re.compile(r"(?<![\w./@-])expflow(?:\.\w+)+(?::\w+(?:\.\w+)*)?(?![\w/-])")

OTHER_NAMES = re.compile(r"expflow\.(\w+|git\.\w+|answer(\.\w+)*|best\.\w+|site\.yaml\S*)$")
"""Tags of MLflow, groups of entry points, the site file."""


@pytest.mark.parametrize("folder", ["expflow", "tests", "benchmarks", "docs"])
def test_modules_and_names_that_are_mentioned_exist(folder):
    dead = [
        f"{name_of(path)}:{line} {reference}"
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md")
        for line, text in prose_of(path)
        for reference in REFERENCE.findall(text)
        if not OTHER_NAMES.match(reference) and not leads_somewhere(reference)
    ]
    assert not dead, "\n".join(dead)


def test_the_tests_that_hold_a_rule_of_inference_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "inference.md").read_text())
    assert len(named) > 20
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).exists() or f"def {name}(" not in (ROOT / file).read_text()
    ]
    assert not missing


def test_the_files_that_the_architecture_page_names_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    files = re.findall(r"`((?:\w+/)*\w+\.py)`", page)
    assert len(files) > 15
    assert not [file for file in files if not (ROOT / "expflow" / file).exists() and not (ROOT / file).exists()]
