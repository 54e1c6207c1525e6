"""Configuration: YAML to a frozen, typed experiment, its search space, identity, addresses and the site file.

Names are imported when they are first used, so that importing a spec's base class does not read the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expflow.config.address import FileAddress, MlflowAddress, NameAddress, parse_address
    from expflow.config.components import recipe_from
    from expflow.config.foreign import make_importable, user_modules
    from expflow.config.identity import (
        config_id,
        dump,
        folder_name,
        identity_tree,
        readable,
        safe_name,
        trial_id,
    )
    from expflow.config.jsonschema import json_schema
    from expflow.config.loading import Loaded, load
    from expflow.config.site import Site, load_site
    from expflow.config.space import grid, grid_size, metric_mode, sample

_HOMES = {
    "address": ("FileAddress", "MlflowAddress", "NameAddress", "parse_address"),
    "components": ("recipe_from",),
    "foreign": ("make_importable", "user_modules"),
    "identity": ("config_id", "dump", "folder_name", "identity_tree", "readable", "safe_name", "trial_id"),
    "jsonschema": ("json_schema",),
    "loading": ("Loaded", "load"),
    "site": ("Site", "load_site"),
    "space": ("grid", "grid_size", "metric_mode", "sample"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FileAddress",
    "Loaded",
    "MlflowAddress",
    "NameAddress",
    "Site",
    "config_id",
    "dump",
    "folder_name",
    "grid",
    "grid_size",
    "identity_tree",
    "json_schema",
    "load",
    "load_site",
    "make_importable",
    "metric_mode",
    "parse_address",
    "readable",
    "recipe_from",
    "safe_name",
    "sample",
    "trial_id",
    "user_modules",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
