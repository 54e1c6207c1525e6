"""What a recorded recipe may do here: results are data, perhaps a stranger's, so they say nothing about what runs.

Code that a recipe in a ledger names (``package.module:Name``) is imported only where the experiment's file *here* names
it, too, and where the user's modules are those that the results were recorded with. The file here is the one that the
command was given, or the recorded one where it lies in the project around the working folder, or one of its name in the
working folder; never one that came with the results. From it come the secrets, too, which the record does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expflow.config import load
from expflow.config.identity import dump
from expflow.config.loading import LoadedExperiment, names_code
from expflow.errors import CodeChanged, CodeRefused, UserError
from expflow.redaction import redacted_places, restored
from expflow.registry import REGISTRIES
from expflow.sweep.code_hashes import module_hashes
from expflow.sweep.result_location import ResultLocation


def admitted(results: ResultLocation, tree: Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """A recorded recipe that may be built here, with its secrets.

    Args:
        results: The results that it belongs to.
        tree: The recipe as plain data.

    Returns:
        The recipe, and the folder that relative paths and the user's own modules are looked for in.

    Raises:
        CodeRefused: It names code that no experiment file here names.
        CodeChanged: The user's modules are not those that the results were recorded with.
        UserError: A secret of it is needed, and no file here holds it.
    """
    recipe = dict(tree)
    names = sorted(set(_code_names(recipe)))
    if not names and not any(redacted_places(recipe)):
        return recipe, results.experiment_folder
    file = experiment_file_here(results)
    here = load(file) if file is not None else None
    if names:
        _check_named(results, names, here)
    if here is not None:
        recipe = restored(recipe, dump(here.experiment.recipe))
    if places := sorted(set(redacted_places(recipe))):
        raise UserError(
            f"{results.name}: {', '.join(places)} held a secret, which is not recorded, and {_no_file(results, here)}"
            " says it; give the experiment's file in the place of the name of its results"
        )
    return recipe, here.experiment.file.parent if here is not None else results.experiment_folder


def _check_named(results: ResultLocation, names: list[str], here: LoadedExperiment | None) -> None:
    """Raise unless the experiment here names the code, and its modules are those that were recorded."""
    named = _named_in(here) if here is not None else frozenset[str]()
    unnamed = [name for name in names if name not in named]
    if here is None or unnamed:
        raise CodeRefused(
            f"{results.name}: {', '.join(unnamed)} was not loaded. Results are data, and code that they name runs only"
            f" where the experiment's file here names it, too: {_no_file(results, here)} does. Give the experiment's"
            " file in the place of the name of its results, or name the code in it"
        )
    recorded = results.state.header.code if results.state.header is not None else {}
    written = here.user_component_names().intersection(names)  # short names are those of installed packages
    now = module_hashes(here.experiment.file.parent, written)
    if changed := sorted(file for file, sha256 in now.items() if recorded.get(file) != sha256):
        raise CodeChanged(
            f"{results.name}: {', '.join(names)} was not used, because {', '.join(changed)} is not what the results"
            f" were recorded with. Put it back, or say that they still count: expflow sweep {here.experiment.file}"
            " --keep-results"
        )


def _named_in(here: LoadedExperiment) -> frozenset[str]:
    """The code that an experiment names, by its path or by a short name, also among searched values."""
    searched = here.experiment.sweep.space if here.experiment.sweep is not None else ()
    texts = {value for dimension in searched for value in dimension.values if isinstance(value, str)}
    paths = {registry.path_of_short_name(text) for registry in REGISTRIES.values() for text in texts}
    return frozenset({*here.user_component_names(), *_code_names(dump(here.experiment.recipe)), *filter(None, paths)})


def _no_file(results: ResultLocation, here: LoadedExperiment | None) -> str:
    if here is not None:
        return f"nothing in {here.experiment.file}"
    header = results.state.header
    recorded = Path(header.file).name if header is not None and header.file else f"{results.name}.yaml"
    return f"no {recorded} in the project around {Path.cwd()}"


def experiment_file_here(results: ResultLocation) -> Path | None:
    """The experiment's file here; None where there is none.

    Args:
        results: The results that it made.
    """
    if results.file is not None:
        return results.file
    header = results.state.header
    if header is None or not header.file:
        return None
    recorded = Path(header.file)
    candidates = (recorded, Path.cwd() / recorded.name)
    return next((file for file in candidates if file.is_file() and _is_here(file, results)), None)


def _is_here(file: Path, results: ResultLocation) -> bool:
    """Whether a file belongs to the project around the working folder, and did not come with the results."""
    here, place = Path.cwd().resolve(), file.resolve()
    project = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    storage = results.folder.resolve().parent
    if not place.is_relative_to(project) or place.is_relative_to(storage):
        return False
    with_results = storage.parent  # an archive that was unpacked here may hold results and files side by side
    return not (place.is_relative_to(with_results) and with_results != here and with_results.is_relative_to(here))


def _code_names(tree: Any) -> Iterator[str]:
    """All ``package.module:Name`` in plain data."""
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _code_names(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _code_names(value)
    elif isinstance(tree, str) and names_code(tree):
        yield tree
