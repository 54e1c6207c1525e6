"""The target of a command about data: an experiment's file, the name of a source, or existing shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.config import load, load_site
from expflow.config.component_argument import parse_component
from expflow.config.tree import problem_at
from expflow.data.prepare.build import build, prepare
from expflow.data.prepare.prepared import OnProgress, PreparedData
from expflow.data.source_spec import ShardedSourceSpec
from expflow.data.stores.address import is_remote
from expflow.errors import DataMissing, ExperimentInvalid, Problem, UnknownName, UserError, nearest
from expflow.registry import SOURCES


@dataclass(frozen=True)
class DataTarget:
    """A source with what this machine and the command line say about it.

    Attributes:
        spec: the source.
        folder: where its relative paths start.
        cache: folder below which its shards are built.
        site_path: where its files lie unless the recipe says so.
        place: makes a problem with a place from a key of the file that it was read from and a message; None where it
            was not read from a file.
    """

    spec: ShardedSourceSpec
    folder: Path
    cache: Path
    site_path: Path | str | None = None
    place: Callable[[str, str], Problem] | None = None

    def prepared(self) -> PreparedData:
        """Return the shards, found or built.

        Raises:
            ExperimentInvalid: the experiment names files that are not there.
            ExpflowError: as :func:`~expflow.data.prepare.build.prepare`.
        """
        try:
            return prepare(self.spec, cache=self.cache, folder=self.folder, site_path=self.site_path)
        except DataMissing as error:
            raise self._placed(error) from error

    def build(self, out: str | None, workers: int, on_progress: OnProgress) -> PreparedData:
        """Return the shards, found or built by several processes.

        Args:
            out: folder or address to build in instead of the cache.
            workers: number of processes.
            on_progress: called with the samples that are written and those that there are.

        Raises:
            ExperimentInvalid: the experiment names files that are not there.
            ExpflowError: as :func:`~expflow.data.prepare.build.build`.
        """
        try:
            return build(
                self.spec,
                cache=self.cache,
                folder=self.folder,
                site_path=self.site_path,
                out=out,
                workers=workers,
                on_progress=on_progress,
            )
        except DataMissing as error:
            raise self._placed(error) from error

    def _placed(self, error: DataMissing) -> Exception:
        if not error.key or self.place is None:
            return error
        return ExperimentInvalid([self.place(error.key, str(error))])


def resolve_target(what: str, sets: Sequence[str] = (), *, files: Path | None = None) -> DataTarget:
    """Return the source that a command's argument names.

    Args:
        what: an experiment's file; ``NAME`` or ``NAME,key=value,…``; a folder or address of shards.
        sets: changes ``key=value`` of the recipe or of the source.
        files: folder of the source's files, where the command says it.

    Raises:
        ExperimentInvalid: the file or the arguments are wrong.
        UnknownName: there is neither a source nor a file of that name.
        UserError: ``sets`` or ``files`` cannot be applied, or the data come from the user's own code.
    """
    target = _resolve(what, sets)
    if files is None:
        return target
    if "path" not in type(target.spec).model_fields:
        raise UserError(f"{target.spec.name} brings its own files; --from has nothing to say")
    kind = Path if target.spec.name == "folder" else str
    path = kind(files.expanduser().absolute())
    return DataTarget(target.spec.model_copy(update={"path": path}), target.folder, target.cache)


def _resolve(what: str, sets: Sequence[str]) -> DataTarget:
    site, here = load_site(), Path.cwd()
    if is_remote(what) or (Path(what).is_dir() and what not in SOURCES):
        if sets:
            raise UserError(f"{what} is a place of shards; --set changes what a recipe says")
        return DataTarget(_of_any_size(_parse_source_spec("shards", [f"path={what}"])), here, site.cache)
    name = what.partition(",")[0]
    if name in SOURCES and not Path(what).is_file():
        spec = _parse_source_spec(what, sets)
        return DataTarget(_of_any_size(spec), here, site.cache, site.data.get(spec.name))
    if not Path(what).exists() and nearest(name, SOURCES.names()):
        raise UnknownName("data source (or file)", name, SOURCES.names())
    loaded = load(what, sets)
    data, file = loaded.experiment.recipe.data, loaded.experiment.file
    if isinstance(data, Mapping):
        parts = ", ".join(f"{slot} ({source.name})" for slot, source in data.items())
        first = next(iter(data.values())).name
        raise UserError(f"{file}: its data are several sources: {parts}; name one of them, {first} for example")
    if not isinstance(data, ShardedSourceSpec):
        raise UserError(f"{file}: its data come from your own code; there are no shards to build")
    return DataTarget(
        data,
        file.parent,
        site.cache,
        site.data.get(data.name),
        lambda key, message: problem_at(loaded.location(key), key, message),
    )


def _of_any_size(spec: ShardedSourceSpec) -> ShardedSourceSpec:
    """``spec`` for commands that train nothing: images that differ in size need no common one then."""
    return spec if spec.image_size is not None else spec.model_copy(update={"image_size": 1})


def _parse_source_spec(what: str, sets: Sequence[str]) -> ShardedSourceSpec:
    """The source ``NAME`` or ``NAME,key=value,…``, changed by ``sets``. Raises ExperimentInvalid and UserError."""
    spec = parse_component("data", what, sets)
    if not isinstance(spec, ShardedSourceSpec):
        raise UserError(f"{what}: its data come from your own code; there are no shards to build")
    return spec
