"""The files of ``cluster/``: written from one table, and each taken by the tool that reads it."""

from __future__ import annotations

import copy
import re
import runpy
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import dockerfile
import pytest
import typer.main
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

from expflow import cli
from tests.cluster import kuberay_fields

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCRIPT = runpy.run_path(str(CLUSTER / "make_cluster_files.py"))
WRITTEN: dict[str, str] = SCRIPT["files"]()


def documents(name: str) -> list[dict[str, Any]]:
    return [dict(document) for document in YAML(typ="safe").load_all(WRITTEN[name])]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_committed_is_what_is_written(name: str) -> None:
    assert (CLUSTER / name).read_text() == WRITTEN[name]


def test_every_file_is_written_by_the_script() -> None:
    by_hand = {"README.md", "make_cluster_files.py"}
    there = {path.relative_to(CLUSTER).as_posix() for path in CLUSTER.rglob("*") if path.is_file()}
    others = {
        name for name in there if Path(name).name not in by_hand and not re.match("templates/|.*__pycache__", name)
    }
    assert others == set(WRITTEN)


def test_each_version_and_port_stands_in_the_table_alone() -> None:
    values = [*SCRIPT["IMAGES"].values(), *(str(port) for port in SCRIPT["PORTS"].values()), SCRIPT["KUBERAY"]]
    for template in (CLUSTER / "templates").iterdir():
        words = set(re.findall(r"[\w./:-]+", template.read_text()))
        assert not words & set(values), template.name
    for name, text in WRITTEN.items():
        assert not re.search("@[A-Z0-9_]+@", text), name
    versions = re.findall(
        r"--version (\S+)|expflow:(\d\S+)", "".join(p.read_text() for p in CLUSTER.rglob("README.md"))
    )
    image = SCRIPT["IMAGES"]["EXPFLOW_IMAGE"].rpartition(":")[2]
    assert {version or tag for version, tag in versions} == {SCRIPT["KUBERAY"], image}


@pytest.mark.parametrize("name", [name for name in WRITTEN if name.startswith("kuberay/")])
def test_kubernetes_takes_the_manifests(name: str) -> None:
    for manifest in documents(name):
        kuberay_fields.validate(manifest)


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_ray_takes_the_launchers_files(cloud: str) -> None:
    (written,) = documents(f"{cloud}/ray-cluster.yaml")
    prepared = prepare_config(copy.deepcopy(written))
    validate_config(prepared)
    assert prepared["provider"]["type"] == cloud
    worker = written["available_node_types"]["spot"]["node_config"]
    assert "spot" in str(worker) or worker["scheduling"][0]["preemptible"]
    starts = written["head_start_ray_commands"] + written["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in start for start in starts if "ray start" in start)
    assert "--dashboard-host=127.0.0.1" in starts[1]
    for command in (*starts, *written["initialization_commands"], *written["setup_commands"]):
        subprocess.run(["bash", "-n", "-c", command], check=True, timeout=60)
    with pytest.raises(Exception, match="max_workers"):
        validate_config({**prepared, "max_workers": "many"})


@pytest.mark.parametrize("name", [name for name in WRITTEN if name.startswith("docker/")])
def test_docker_parses_the_dockerfiles(name: str) -> None:
    commands = dockerfile.parse_string(WRITTEN[name])
    assert {"FROM", "RUN", "COPY", "USER", "CMD"} <= {command.cmd for command in commands}
    for command in commands:
        if command.cmd == "RUN":
            subprocess.run(["sh", "-n", "-c", command.value[0]], check=True, timeout=60)
        if command.cmd == "COPY":
            assert all((ROOT / source).exists() for source in command.value[:-1]), command.original
    assert [command.value for command in commands if command.cmd == "USER"] == [("ray",)]
    assert "torch==" in WRITTEN[name]
    assert ("+cpu" in WRITTEN[name]) != name.endswith("cuda")


def test_bash_takes_the_batch_script() -> None:
    subprocess.run(["bash", "-n", CLUSTER / "slurm" / "sweep.sbatch"], check=True, timeout=60)


PAGES = [ROOT / "docs" / "cluster.md", *sorted(CLUSTER.rglob("README.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```\n\n(.*?)(?:\n\n|\Z)", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_beside_each_command_stands_how_it_was_checked(page: Path) -> None:
    text = page.read_text()
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```sh\n")
    for commands, note in blocks:
        assert note.startswith(("*Run here:*", "*Validated:*")), commands
        for test in re.findall(r"`(?:tests/\w+/)?(test_\w+\.py)`", note):
            assert list((ROOT / "tests").rglob(test)), test
        for line in commands.replace("\\\n", " ").splitlines():
            check_command(line)
    for folder in re.findall(r"\]\(([^)#:]+)\)?", text):
        assert (page.parent / folder).exists(), folder


def check_command(line: str) -> None:
    """expflow's commands parse, files are there, and a shell takes the line."""
    subprocess.run(["bash", "-n", "-c", line], check=True, timeout=60)
    words = shlex.split(line)
    for word in words:
        assert not word.startswith(("cluster/", "experiments/")) or (ROOT / word).exists(), line
    if command := re.search(r"\bexpflow ((?:submit|status|logs|stop|sweep|doctor) .*)", line):
        parse(shlex.split(command[1]))
    if words[0] == "ssh":
        shown = subprocess.run(["ssh", "-G", *words[1:]], capture_output=True, text=True, timeout=60)
        assert "localforward 8265 [127.0.0.1]:8265" in shown.stdout


def parse(words: list[str]) -> None:
    """Have the command line's own parser read a command, which is not run."""
    command: Any = typer.main.get_command(cli.app)
    context = click.Context(command)
    name, chosen, rest = command.resolve_command(context, words)
    chosen.make_context(name, rest, parent=context)
