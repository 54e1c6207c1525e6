"""The target of a command about data: an experiment's file, the name of a source, or existing shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from expflow.config import load, load_site
from expflow.config.component_argument import parse_component
from expflow.config.tree import problem_at
from expflow.data.prepare.build import build, prepare
from expflow.data.prepare.prepared import OnProgress, PreparedData
from expflow.data.slots import naming_slot
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
        slot: the slot of the file's recipe under which it stands; "" for the only source.
    """

    spec: ShardedSourceSpec
    folder: Path
    cache: Path
    site_path: Path | str | None = None
    place: Callable[[str, str], Problem] | None = None
    slot: str = ""

    def prepared(self) -> PreparedData:
        """Return the shards, found or built.

        Raises:
            ExperimentInvalid: the experiment names files that are not there.
            ExpflowError: as :func:`~expflow.data.prepare.build.prepare`.
        """
        with self._placed():
            return prepare(self.spec, cache=self.cache, folder=self.folder, site_path=self.site_path)

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
        with self._placed():
            return build(
                self.spec,
                cache=self.cache,
                folder=self.folder,
                site_path=self.site_path,
                out=out,
                workers=workers,
                on_progress=on_progress,
            )

    @contextmanager
    def _placed(self) -> Iterator[None]:
        try:
            with naming_slot(self.slot):
                yield
        except DataMissing as error:
            if not error.key or self.place is None:
                raise
            raise ExperimentInvalid([self.place(error.key, str(error))]) from error


def resolve_targets(what: str, sets: Sequence[str] = (), *, files: Path | None = None) -> list[DataTarget]:
    """Return the sources that a command's argument names: one, or those of all slots of an experiment's file.

    Args:
        what: an experiment's file; ``NAME`` or ``NAME,key=value,…``; a folder or address of shards.
        sets: changes ``key=value`` of the recipe or of the source.
        files: folder of the source's files, where the command says it.

    Raises:
        ExperimentInvalid: the file or the arguments are wrong.
        UnknownName: there is neither a source nor a file of that name.
        UserError: ``sets`` or ``files`` cannot be applied, or the data come from the user's own code.
    """
    targets = _resolve(what, sets)
    return targets if files is None else [_with_files(only_target(targets, "--from"), files)]


def only_target(targets: Sequence[DataTarget], option: str) -> DataTarget:
    """Return the one target that an option of a command is about.

    Args:
        targets: what the command's argument names.
        option: the option.

    Raises:
        UserError: there are several.
    """
    if len(targets) > 1:
        parts = ", ".join(f"{target.slot} ({target.spec.name})" for target in targets)
        raise UserError(
            f"{option} is about one source, and the data are several: {parts}; name one of them,"
            f" {targets[0].spec.name} for example"
        )
    return targets[0]


def _with_files(target: DataTarget, files: Path) -> DataTarget:
    if "path" not in type(target.spec).model_fields:
        raise UserError(f"{target.spec.name} brings its own files; --from has nothing to say")
    kind = Path if target.spec.name == "folder" else str
    path = kind(files.expanduser().absolute())
    return DataTarget(target.spec.model_copy(update={"path": path}), target.folder, target.cache)


def _resolve(what: str, sets: Sequence[str]) -> list[DataTarget]:
    site, here = load_site(), Path.cwd()
    if is_remote(what) or (Path(what).is_dir() and what not in SOURCES):
        if sets:
            raise UserError(f"{what} is a place of shards; --set changes what a recipe says")
        return [DataTarget(_of_any_size(_parse_source_spec("shards", [f"path={what}"])), here, site.cache)]
    name = what.partition(",")[0]
    if name in SOURCES and not Path(what).is_file():
        spec = _parse_source_spec(what, sets)
        return [DataTarget(_of_any_size(spec), here, site.cache, site.data.get(spec.name))]
    if not Path(what).exists() and nearest(name, SOURCES.names()):
        raise UnknownName("data source (or file)", name, SOURCES.names())
    loaded = load(what, sets)
    data, file = loaded.experiment.recipe.data, loaded.experiment.file

    def place(key: str, message: str) -> Problem:
        return problem_at(loaded.location(key), key, message)

    targets = []
    for slot, source in data.items() if isinstance(data, Mapping) else [("", data)]:
        if not isinstance(source, ShardedSourceSpec):
            raise UserError(f"{file}: its data come from your own code; there are no shards to build")
        targets.append(DataTarget(source, file.parent, site.cache, site.data.get(source.name), place, slot))
    return targets


def _of_any_size(spec: ShardedSourceSpec) -> ShardedSourceSpec:
    """``spec`` for commands that train nothing: images that differ in size need no common one then."""
    return spec if spec.image_size is not None else spec.model_copy(update={"image_size": 1})


def _parse_source_spec(what: str, sets: Sequence[str]) -> ShardedSourceSpec:
    """The source ``NAME`` or ``NAME,key=value,…``, changed by ``sets``. Raises ExperimentInvalid and UserError."""
    spec = parse_component("data", what, sets)
    if not isinstance(spec, ShardedSourceSpec):
        raise UserError(f"{what}: its data come from your own code; there are no shards to build")
    return spec
