"""Configuration: YAML to a frozen, typed experiment, its search space, identity, addresses and the site file.

Names are imported when they are first used, so that importing a spec's base class does not read the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expflow.config.address import FileAddress, MlflowAddress, NameAddress, parse_address
    from expflow.config.components import recipe_from
    from expflow.config.identity import (
        config_id,
        config_text,
        dump,
        folder_name,
        identity_tree,
        safe_name,
        trial_id,
    )
    from expflow.config.jsonschema import json_schema
    from expflow.config.loading import LoadedExperiment, load
    from expflow.config.site import Site, load_site
    from expflow.config.space import grid, grid_size, sample
    from expflow.config.user_components import make_importable

_HOMES = {
    "address": ("FileAddress", "MlflowAddress", "NameAddress", "parse_address"),
    "components": ("recipe_from",),
    "user_components": ("make_importable",),
    "identity": ("config_id", "dump", "folder_name", "identity_tree", "config_text", "safe_name", "trial_id"),
    "jsonschema": ("json_schema",),
    "loading": ("LoadedExperiment", "load"),
    "site": ("Site", "load_site"),
    "space": ("grid", "grid_size", "sample"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FileAddress",
    "LoadedExperiment",
    "MlflowAddress",
    "NameAddress",
    "Site",
    "config_id",
    "config_text",
    "dump",
    "folder_name",
    "grid",
    "grid_size",
    "identity_tree",
    "json_schema",
    "load",
    "load_site",
    "make_importable",
    "parse_address",
    "recipe_from",
    "safe_name",
    "sample",
    "trial_id",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
