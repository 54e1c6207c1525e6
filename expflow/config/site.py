"""What differs between machines: ``expflow.site.yaml`` and ``EXPFLOW_*`` variables. Never hashed.

Three places, the later of which wins key by key: the user's configuration folder (``~/.config/expflow/``), the working
folder, the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import field_validator

from expflow.config.merge import merge, under
from expflow.config.reading import read, scalar
from expflow.config.schema import Resources
from expflow.config.sizes import ByteSize
from expflow.config.spec import Model, execution
from expflow.config.tree import Mark, Node, from_plain
from expflow.config.wording import check_model
from expflow.errors import ExperimentInvalid, Problem

FILE = "expflow.site.yaml"


class Site(Model):
    """This machine."""

    storage: str = execution("runs", description="Folder or s3:// address of all results.")
    cache: Path = execution(description="Folder for prepared data; by default ~/.cache/expflow.")
    cache_limit: ByteSize | None = execution(
        None,
        description="Most bytes of shards from elsewhere that the cache keeps, such as 50 GB; what is built here does"
        " not count.",
    )
    data: dict[str, Path | str] = execution(
        default_factory=dict,
        description="Data source -> folder where its files lie, or folder or address of shards built from them.",
    )
    weights: Path | None = execution(
        None, description="Folder of published weights, beside the one that torch's hub keeps."
    )
    mlflow: str | None = execution(None, description="Address of the MLflow server or store.")
    ray: str | None = execution(None, description="Address of the Ray cluster.")
    price: float | None = execution(
        None, ge=0, description="Price of one device-hour, in a currency of your choice; plans then say what they cost."
    )
    resources: Resources | None = execution(None, description="Defaults for an experiment's `resources`.")

    @field_validator("data")
    @classmethod
    def _folders(cls, value: dict[str, Path | str]) -> dict[str, Path | str]:
        return {name: each if "://" in str(each) else Path(each) for name, each in value.items()}


def load_site(cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Site:
    """This machine's settings. ``cwd`` and ``env`` stand in for the working folder and the environment.

    Relative folders in a file are seen from that file, those in the environment from the working folder.
    Raises ExperimentInvalid with everything that is wrong.
    """
    cwd, env = cwd or Path.cwd(), os.environ if env is None else env
    home = Path(env.get("HOME") or Path.home())
    tree: Node = Node({}, Mark(FILE))
    here = ("site",)  # a path that no component has: `data` is a plain mapping here
    for folder in (Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "expflow", cwd):
        file = folder / FILE
        if file.is_file():
            root = read(file)[1]
            tree = merge(tree, _placed(root, folder.absolute(), home), here)
    for node in _environment(env):
        tree = merge(tree, _placed(node, cwd.absolute(), home), here)
    if tree.child("cache") is None:
        cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "expflow"
        tree = merge(tree, under(("cache",), from_plain(str(cache), tree.mark)), here)
    problems: list[Problem] = []
    site = check_model(Site, tree, (), problems)
    if site is None:
        raise ExperimentInvalid(problems)
    return site


def _environment(env: Mapping[str, str]) -> list[Node]:
    """Settings from ``EXPFLOW_STORAGE``, ``EXPFLOW_DATA_<SOURCE>``, ``EXPFLOW_RESOURCES_<KEY>``…"""
    nodes = []
    for variable, text in sorted(env.items()):
        name, mark = variable.removeprefix("EXPFLOW_").lower(), Mark(variable)
        head, _, rest = name.partition("_")
        if not variable.startswith("EXPFLOW_") or not text:
            continue
        if head in ("data", "resources") and rest:
            value = text if head == "data" else scalar(text)
            nodes.append(under((head, rest), from_plain(value, mark)))
        elif name in Site.model_fields and name not in ("data", "resources"):
            nodes.append(under((name,), from_plain(scalar(text) if name == "price" else text, mark)))
    return nodes


def _placed(node: Node, folder: Path, home: Path) -> Node:
    """The tree with its folders made absolute."""
    items = dict(node.items)
    for key in ("cache", "storage", "weights"):
        if key in items:
            items[key] = _absolute(items[key], folder, home)
    if "data" in items and items["data"].is_mapping:
        data = items["data"]
        children = {key: _absolute(child, folder, home) for key, child in data.items.items()}
        items["data"] = Node(children, data.mark, data.key_mark)
    return Node(items, node.mark, node.key_mark)


def _absolute(node: Node, folder: Path, home: Path) -> Node:
    if not isinstance(node.value, str) or "://" in node.value:
        return node
    text = str(home) + node.value[1:] if node.value == "~" or node.value.startswith("~/") else node.value
    return Node(str(folder / text), node.mark, node.key_mark)
