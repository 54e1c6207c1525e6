"""The readable recipe of a trial, in its folder: written by the driver, and by rank 0 on a node of its own disk."""

from __future__ import annotations

from pathlib import Path

from expflow.config.identity import dump, dump_yaml
from expflow.config.schema import Recipe
from expflow.files import write_atomically
from expflow.redaction import redacted_tree

FILE = "config.yaml"


def write_config(folder: Path, address: str, seed: int, recipe: Recipe) -> None:
    """Write a trial's resolved recipe into its folder, without secrets.

    Args:
        folder: The trial's folder.
        address: Its address, ``NAME/trial``.
        seed: Its seed.
        recipe: The recipe.
    """
    head = f"# {address}, seed {seed}\n"
    write_atomically(folder / FILE, (head + dump_yaml(redacted_tree(dump(recipe)))).encode())
