"""What differs between machines: ``expflow.site.yaml`` and ``EXPFLOW_*`` variables. Never hashed.

Three places, the later of which wins key by key: the user's configuration folder (``~/.config/expflow/``), the working
folder, the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import SerializeAsAny, field_validator

from expflow.config.byte_size import ByteSize
from expflow.config.components import LoadingContext, resolve_component
from expflow.config.merge import merge, tree_with
from expflow.config.resources import Resources
from expflow.config.spec import FrozenModel, Spec, execution
from expflow.config.tree import Mark, Node, from_plain, problem_at
from expflow.config.validation import check_model
from expflow.config.yaml_reader import read, scalar
from expflow.errors import ExperimentInvalid, Problem
from expflow.redaction import remember_address
from expflow.registry import LAUNCHERS

FILE = "expflow.site.yaml"

VARIABLE_PREFIX = "EXPFLOW_"
"""What variables of the environment begin with that set a key of the site file."""


NESTED_KEYS = ("clusters", "data", "metrics", "resources")
"""Settings that are mappings: of them a variable sets one key."""


class MetricsExport(FrozenModel):
    """Where a driver answers Prometheus' scrapes."""

    port: int = execution(0, ge=0, le=65535, description="Port of the driver's metrics; 0: any free one.")
    address: str = execution("127.0.0.1", description="Address that it listens on: by default this machine's alone.")
    discovery: Path | None = execution(
        None, description="Folder where each driver leaves a file for Prometheus' file discovery while it works."
    )


class Site(FrozenModel):
    """This machine."""

    storage: str = execution(
        "runs",
        description="Folder of all results, or an address such as s3://bucket/path; the key storage of an experiment"
        " and --storage go before it.",
    )
    cache: Path = execution(description="Folder for prepared data; by default ~/.cache/expflow.")
    cache_limit: ByteSize | None = execution(
        None,
        description="Most bytes of shards from elsewhere that the cache keeps, such as 50 GB; what is built here does"
        " not count.",
    )
    data: dict[str, Path | str] = execution(
        default_factory=dict,
        description="Data source -> folder where its files lie, or folder or address of shards built from them;"
        " data.path of an experiment and --from go before it.",
    )
    weights: Path | None = execution(
        None, description="Folder of published weights, beside the one that torch's hub keeps."
    )
    mlflow: str | None = execution(None, description="Address of the MLflow server or store.")
    ray: str | None = execution(None, description="Address of the Ray cluster; --address goes before it.")
    cluster: str | None = execution(
        None,
        description="Where submit, logs and stop find jobs: a name of `clusters`, or a launcher's own name.",
    )
    clusters: dict[str, SerializeAsAny[Spec]] = execution(
        default_factory=dict, description="Your name -> a launcher, with how it reaches that cluster."
    )
    price: float | None = execution(
        None, ge=0, description="Price of one device-hour, in a currency of your choice; plans then say what they cost."
    )
    metrics: MetricsExport | None = execution(
        None, description="Export metrics for Prometheus while a sweep works; by default no port is opened."
    )
    resources: Resources | None = execution(None, description="Defaults for an experiment's `resources`.")

    @field_validator("data")
    @classmethod
    def _folders(cls, value: dict[str, Path | str]) -> dict[str, Path | str]:
        return {name: place if "://" in str(place) else Path(place) for name, place in value.items()}


def load_site(cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Site:
    """This machine's settings.

    Relative folders in a file are seen from that file, those in the environment from the working folder.

    Args:
        cwd: The working folder; by default the process's.
        env: The environment; by default the process's.

    Raises:
        ExperimentInvalid: Something in them is wrong; it holds all problems.
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
        tree = merge(tree, tree_with(("cache",), from_plain(str(cache), tree.mark)), here)
    problems: list[Problem] = []
    clusters = _clusters(tree.child("clusters"), cwd, problems)
    own = Node({key: child for key, child in tree.items.items() if key != "clusters"}, tree.mark, tree.key_mark)
    site = check_model(Site, own, (), problems)
    if site is None or problems:
        raise ExperimentInvalid(problems)
    site = site.model_copy(update={"clusters": clusters})
    for address in (site.mlflow, site.ray, *site.data.values()):
        remember_address(str(address or ""))
    return site


def _clusters(node: Node | None, folder: Path, problems: list[Problem]) -> dict[str, Spec]:
    """The user's name of each cluster -> its launcher's spec."""
    if node is None or node.value is None:
        return {}
    if not node.is_mapping:
        problems.append(problem_at(node.mark, "clusters", "expected a mapping of your names to launchers"))
        return {}
    context = LoadingContext(folder, problems)
    specs = {
        name: resolve_component(LAUNCHERS, child, ("clusters", name), context) for name, child in node.items.items()
    }
    return {name: spec for name, spec in specs.items() if spec is not None}


def _environment(env: Mapping[str, str]) -> list[Node]:
    """Settings from ``EXPFLOW_STORAGE``, ``EXPFLOW_DATA_<SOURCE>``, ``EXPFLOW_RESOURCES_<KEY>``…"""
    nodes = []
    for variable, text in sorted(env.items()):
        name, mark = variable.removeprefix(VARIABLE_PREFIX).lower(), Mark(variable)
        head, _, rest = name.partition("_")
        if not variable.startswith(VARIABLE_PREFIX) or not text:
            continue
        if head in NESTED_KEYS and head != "clusters" and rest:
            value = text if head == "data" else scalar(text)
            nodes.append(tree_with((head, rest), from_plain(value, mark)))
        elif name in Site.model_fields and name not in NESTED_KEYS:
            nodes.append(tree_with((name,), from_plain(scalar(text) if name == "price" else text, mark)))
    return nodes


def _placed(node: Node, folder: Path, home: Path) -> Node:
    """The tree with its folders made absolute."""
    items = dict(node.items)
    for key in ("cache", "storage", "weights"):
        if key in items:
            items[key] = _absolute(items[key], folder, home)
    if "metrics" in items and items["metrics"].is_mapping and "discovery" in items["metrics"].items:
        metrics = items["metrics"]
        children = dict(metrics.items) | {"discovery": _absolute(metrics.items["discovery"], folder, home)}
        items["metrics"] = Node(children, metrics.mark, metrics.key_mark)
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
