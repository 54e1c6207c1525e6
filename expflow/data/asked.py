"""What a command about data means: an experiment's file, the name of a source, or shards that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.config import load, load_site
from expflow.config.single import component
from expflow.config.tree import problem
from expflow.data.build import OnProgress, Prepared, build, prepare
from expflow.data.specs import Source
from expflow.data.stores.address import is_elsewhere
from expflow.errors import DataMissing, ExperimentInvalid, Problem, UnknownName, UserError, nearest
from expflow.registry import SOURCES


@dataclass(frozen=True)
class Asked:
    """A source with what this machine and the command line say about it.

    ``folder`` is where its relative paths start, ``site_path`` where its files lie unless the recipe says so. ``place``
    makes a problem of an error about a key of the file that it was read from.
    """

    spec: Source
    folder: Path
    cache: Path
    site_path: Path | str | None = None
    place: Callable[[str, str], Problem] | None = None

    def prepared(self) -> Prepared:
        """The shards, found or built. Raises as :func:`~expflow.data.build.prepare`."""
        try:
            return prepare(self.spec, cache=self.cache, folder=self.folder, site_path=self.site_path)
        except DataMissing as error:
            raise self._placed(error) from error

    def build(self, out: str | None, workers: int, on_progress: OnProgress) -> Prepared:
        """The shards, built by ``workers`` processes. Raises as :func:`~expflow.data.build.build`."""
        where = {"cache": self.cache, "folder": self.folder, "site_path": self.site_path}
        try:
            return build(self.spec, **where, out=out, workers=workers, on_progress=on_progress)  # type: ignore[arg-type]
        except DataMissing as error:
            raise self._placed(error) from error

    def _placed(self, error: DataMissing) -> Exception:
        if not error.key or self.place is None:
            return error
        return ExperimentInvalid([self.place(error.key, str(error))])


def asked(what: str, sets: Sequence[str] = (), *, files: Path | None = None) -> Asked:
    """What ``what`` names: an experiment's file; ``NAME`` or ``NAME,key=value,…``; a folder or address of shards.

    ``sets`` are ``key=value``, ``files`` is the folder of the source's files where the command says it. Raises
    ExperimentInvalid and UserError.
    """
    found = _asked(what, sets)
    if files is None:
        return found
    if "path" not in type(found.spec).model_fields:
        raise UserError(f"{found.spec.name} brings its own files; --from has nothing to say")
    kind = Path if found.spec.name == "folder" else str
    return Asked(found.spec.model_copy(update={"path": kind(files.expanduser().absolute())}), found.folder, found.cache)


def _asked(what: str, sets: Sequence[str]) -> Asked:
    site, here = load_site(), Path.cwd()
    if is_elsewhere(what) or (Path(what).is_dir() and what not in SOURCES):
        if sets:
            raise UserError(f"{what} is a place of shards; --set changes what a recipe says")
        return Asked(_of_any_size(component_of("shards", [f"path={what}"])), here, site.cache)
    name = what.partition(",")[0]
    if name in SOURCES and not Path(what).is_file():
        spec = component_of(what, sets)
        return Asked(_of_any_size(spec), here, site.cache, site.data.get(spec.name))
    if not Path(what).exists() and nearest(name, SOURCES.names()):
        raise UnknownName("data source (or file)", name, SOURCES.names())
    loaded = load(what, sets)
    data, file = loaded.experiment.recipe.data, loaded.experiment.file
    if not isinstance(data, Source):
        raise UserError(f"{file}: its data come from your own code; there are no shards to build")
    return Asked(
        data,
        file.parent,
        site.cache,
        site.data.get(data.name),
        lambda key, message: problem(loaded.place(key), key, message),
    )


def _of_any_size(spec: Source) -> Source:
    """``spec`` for who builds or looks, and trains nothing: images that differ in size need no common one then."""
    return spec if spec.image_size is not None else spec.model_copy(update={"image_size": 1})


def component_of(what: str, sets: Sequence[str]) -> Source:
    """The source that ``what`` names, changed by ``sets``. Raises ExperimentInvalid."""
    spec = component("data", what, sets)
    if not isinstance(spec, Source):
        raise UserError(f"{what}: its data come from your own code; there are no shards to build")
    return spec
