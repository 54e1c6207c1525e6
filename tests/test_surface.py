"""The public surface, frozen: verbs, their arguments and flags, and the keys that YAML may use at the top.

A change of it is a decision. Once it is taken, `.venv/bin/python tests/test_surface.py` writes tests/surface.txt anew.
"""

import difflib
from pathlib import Path

import typer.main

from expflow.cli import app
from expflow.config.schema import Experiment

FROZEN = Path(__file__).with_name("surface.txt")

VERBS = set("plan train sweep submit status logs stop report show test ui data models doctor schema".split())  # noqa: SIM905


def commands(command, path):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def parameters(command):
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield f"{parameter.name}" if parameter.required else f"[{parameter.name}]"
        else:
            yield "/".join(sorted([*parameter.opts, *parameter.secondary_opts], key=len, reverse=True))


def surface():
    root = typer.main.get_command(app)
    lines = sorted(f"{path}: {' '.join(parameters(command))}".rstrip() for path, command in commands(root, "expflow"))
    keys = sorted(set(Experiment.model_fields) - {"file"} | {"extends"})
    return "\n".join([*lines, "", "experiment file: " + " ".join(keys), ""])


def test_the_verbs():
    assert set(typer.main.get_command(app).commands) == VERBS


def test_nothing_changed_unnoticed():
    now, then = surface(), FROZEN.read_text()
    changes = "\n".join(difflib.unified_diff(then.splitlines(), now.splitlines(), "frozen", "now", lineterm=""))
    assert not changes, f"the public surface changed:\n{changes}\nIf that is meant: python {Path(__file__).name}"


def test_everything_says_what_it_is():
    silent = []
    for path, command in commands(typer.main.get_command(app), "expflow"):
        silent += [path] * (not command.help)
        silent += [f"{path} {each.name}" for each in command.params if not getattr(each, "help", "")]
    assert not silent


if __name__ == "__main__":
    FROZEN.write_text(surface())
    print(FROZEN.read_text())
