"""The contract of data sources: every name of the registry keeps it. A new source needs an entry in CASES."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expflow.config.identity import dump_yaml
from expflow.data.dataspec import VOID
from expflow.data.prepare.build import build, prepare
from expflow.data.prepare.prepared import PreparedData, data_key, prepared_without_files
from expflow.data.shards.index import read_index
from expflow.data.shards.verify import verify_shards
from expflow.data.source_spec import ShardedSourceSpec
from expflow.data.sources import idx, stamp_files
from expflow.data.sources.base import BOX_FIELDS
from expflow.data.streaming.loader import loader_for
from expflow.errors import DataInvalid, DataMissing, ExpflowError
from expflow.registry import SOURCES, load_dotted
from tests.config.files import loaded, problems
from tests.data.sources.boxed_sets import write_coco, write_crowns, write_nuclei
from tests.data.sources.captioned_sets import write_captions, write_emoji
from tests.data.sources.imagenets import train_folders, val_sorted
from tests.data.sources.labelled_sets import write_pets, write_stamps, write_table, write_voc
from tests.data.sources.small_sets import write_cifar, write_idx
from tests.data.tiny import PNGS, tar_of

BUILD_WITH = "run `expflow data build {name} --from FOLDER`"
BUILD_FIRST = "run `expflow data build FILE --from FOLDER`"
WRITE_PATH = "write data.path in the experiment"


@dataclass(frozen=True)
class SourceCase:
    """How the tests make small files for one source, and what it says without files.

    ``write`` fills a folder; None where the source brings its own files. ``keys`` are what so few files need.
    ``target`` is the field beside the image (or beside ``beside``), and ``task`` one that learns it; ``also`` is
    what else there is.
    """

    write: Callable[[Path, pytest.MonkeyPatch], None] | None = None
    keys: dict[str, Any] = field(default_factory=dict)
    without_files: str = ""
    empty_folder: tuple[type[ExpflowError], str] = (DataMissing, "")
    target: str = "label"
    task: str = "classification"
    beside: str = "image"
    also: tuple[str, ...] = ()


def _folder_of_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            (folder / label / f"{number}.png").write_bytes(PNGS[number * (1 + (label == "b"))])


def _cifar(name: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_cifar(folder, name, monkeypatch)

    return write


def _imagenet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_folders(folder)
    val_sorted(folder)


def _imagenet22k(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_folders(folder, ".")


def _shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    for place, name in enumerate(("train-0", "train-1", "val-0", "test-0")):
        members = {}
        for number in range(6 * place, 6 * place + 6):
            members |= {f"{number:04d}.jpg": PNGS[number], f"{number:04d}.cls": str(number % 3).encode()}
        (folder / f"{name}.tar").write_bytes(tar_of(members))


def _coco(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(folder, {"train": 12, "val": 4, "test": 4})


def _tree_crowns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_crowns(folder, monkeypatch)


def _nuclei(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nuclei(folder, monkeypatch)


def _voc(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_voc(folder / "VOCdevkit" / "VOC2012", 8)


def _pets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pets(folder, 8)


def _stamps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stamps(folder, 24)


def _table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(folder, 12)


def _captions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stamps(folder, 24)
    write_captions(folder, 24)


def _emoji(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_emoji(folder, monkeypatch, 30)


CASES = {
    "digits": SourceCase(),
    "digit_scenes": SourceCase(
        None, {"train_scenes": 12, "val_scenes": 3, "test_scenes": 3, "side": 16}, target="mask", task="segmentation"
    ),
    "written_dates": SourceCase(
        None, {"train_dates": 12, "val_dates": 3, "test_dates": 3}, target="target", task="seq2seq", beside="source"
    ),
    "noisy_curve": SourceCase(target="target", task="regression"),
    "mnist": SourceCase(write_idx, {}, BUILD_WITH, (DataMissing, "without --from to fetch it")),
    "fashion_mnist": SourceCase(write_idx, {}, BUILD_WITH, (DataMissing, "without --from to fetch it")),
    "cifar10": SourceCase(_cifar("cifar10"), {}, BUILD_WITH, (DataMissing, "without --from to fetch it")),
    "cifar100": SourceCase(_cifar("cifar100"), {}, BUILD_WITH, (DataMissing, "without --from to fetch it")),
    "imagenet": SourceCase(_imagenet, {"val_fraction": 0.34}, BUILD_FIRST, (DataMissing, "get ILSVRC2012_img_train")),
    "imagenet22k": SourceCase(
        _imagenet22k, {"val_fraction": 0.2, "test_fraction": 0.2}, BUILD_FIRST, (DataMissing, "get winter21_whole")
    ),
    "voc2012": SourceCase(
        _voc, {"val_fraction": 0.3}, BUILD_WITH, (DataMissing, "get VOCtrainval"), "mask", "segmentation"
    ),
    "voc2012_labels": SourceCase(
        _voc, {"val_fraction": 0.3}, BUILD_WITH, (DataMissing, "get VOCtrainval"), "labels", "multilabel"
    ),
    "pets": SourceCase(
        _pets, {"val_fraction": 0.3}, BUILD_WITH, (DataMissing, "get images.tar.gz"), "mask", "segmentation"
    ),
    "stamps": SourceCase(
        _stamps,
        {"side": 16},
        "install Debian's package",
        (DataMissing, "expected tuxpaint-stamps"),
        "mask",
        "segmentation",
    ),
    "stamp_captions": SourceCase(
        _captions,
        {"side": 16},
        "install Debian's package",
        (DataMissing, "expected tuxpaint-stamps"),
        "text",
        "clip",
        also=("label",),
    ),
    "caption_pairs": SourceCase(
        _captions,
        {},
        "install Debian's package",
        (DataMissing, "expected tuxpaint-stamps"),
        "target",
        "seq2seq",
        beside="source",
    ),
    "emoji": SourceCase(
        _emoji, {}, BUILD_WITH, (DataMissing, "there is no emoji-datasource-google"), "text", "clip", also=("label",)
    ),
    "table": SourceCase(
        _table,
        {"labels": "labels", "image_size": 4},
        WRITE_PATH,
        (DataMissing, "there is no table"),
        "labels",
        "multilabel",
    ),
    "folder": SourceCase(
        _folder_of_images, {"image_size": 4}, WRITE_PATH, (DataInvalid, "each class needs a folder of its own")
    ),
    "coco": SourceCase(
        _coco, {"image_size": 24}, BUILD_WITH, (DataMissing, "no annotations of train in it"), "boxes", "detection"
    ),
    "tree_crowns": SourceCase(
        _tree_crowns, {"side": 64}, BUILD_WITH, (DataMissing, "there is no deepforest-2.1.0"), "boxes", "detection"
    ),
    "nuclei": SourceCase(
        _nuclei,
        {"side": 64, "truth": "boxes"},
        BUILD_WITH,
        (DataMissing, "there is no stardist-0.9.2"),
        "boxes",
        "detection",
    ),
    "shards": SourceCase(_shards, {"image_size": 4}, WRITE_PATH, (DataMissing, WRITE_PATH)),
}

EXPERIMENT = """\
data: {data}
model: {{name: resnet, depth: 20}}
task: classification
optimizer: {{name: sgd, lr: 0.1}}
"""

every_source = pytest.mark.parametrize("name", SOURCES.names())
every_source_of_files = pytest.mark.parametrize(
    "name", [name for name in SOURCES.names() if name not in CASES or CASES[name].write is not None]
)


@pytest.fixture(autouse=True)
def _no_system_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "no package")
    monkeypatch.setattr(stamp_files, "INSTALLED", tmp_path / "no package")


def spec_of(name: str, **keys: Any) -> ShardedSourceSpec:
    return SOURCES.spec(name)(name=name, **keys)


def built(name: str, folder: Path, cache: Path) -> tuple[ShardedSourceSpec, PreparedData]:
    spec = spec_of(name, **CASES[name].keys)
    return spec, build(spec, cache=cache, site_path=folder if CASES[name].write else None)


def sample_ids(spec: ShardedSourceSpec, folder: Path, data: PreparedData) -> dict[str, list[object]]:
    """What tells the samples of each split apart: where their files lie, their numbers, or their keys in shards."""
    if spec.in_place:
        return {
            split: [
                (shard.name, key) for shard in shards for key in read_index(data.root, shard, data.manifest.fields).keys
            ]
            for split, shards in data.manifest.splits.items()
        }
    source = load_dotted(spec.build)(spec, spec.origin(None, folder))
    return {split: [(item.archive, item.offset, item.name) for item in items] for split, items in source.splits.items()}


def test_every_source_has_a_case():
    assert sorted(CASES) == SOURCES.names()


@every_source
def test_a_spec_is_built_from_yaml_and_its_key_is_stable(name, tmp_path):
    first, mapping = (
        loaded(tmp_path, EXPERIMENT.format(data=data)).experiment.recipe for data in (name, f"{{name: {name}}}")
    )
    assert first.data == mapping.data == spec_of(name)
    dumped = dump_yaml(first)
    assert "batch_size: 64" in dumped, "defaults are written out"
    again = loaded(tmp_path, dumped).experiment.recipe
    assert again.data == first.data
    assert data_key(again.data) == data_key(first.data)
    assert data_key(spec_of(name, batch_size=7, workers=2, limit=5)) == data_key(first.data)
    assert first.data.description()["name"] == name


@every_source
def test_an_unknown_key_is_refused_with_its_place(name, tmp_path):
    text = EXPERIMENT.format(data=f"{{name: {name}, batch_sise: 3}}")
    column = text.index("batch_sise") + 1
    (problem,) = problems(tmp_path, text)
    assert problem == f"exp.yaml:1:{column}: data.batch_sise: unknown key; nearest valid key: batch_size"


@every_source_of_files
def test_missing_files_are_named_with_what_to_do(name, tmp_path):
    case, spec, cache = CASES[name], spec_of(name, **CASES[name].keys), tmp_path / "cache"
    with pytest.raises(DataMissing) as error:
        prepare(spec, cache=cache)
    assert case.without_files.format(name=name) in str(error.value)
    with pytest.raises(DataMissing, match="correct the path"):
        prepare(spec, cache=cache, site_path=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    kind, message = case.empty_folder
    with pytest.raises(kind) as error:
        build(spec, cache=cache, site_path=tmp_path / "empty")
    assert message in str(error.value)


@every_source
def test_a_source_gives_the_same_samples_twice_in_splits_without_overlap(name, tmp_path, monkeypatch):
    folder = tmp_path / "files"
    if CASES[name].write is not None:
        CASES[name].write(folder, monkeypatch)
    spec, first = built(name, folder, tmp_path / "first")
    _, second = built(name, folder, tmp_path / "second")
    assert second.manifest == first.manifest
    assert verify_shards(first.root) == []
    assert first.key == data_key(spec)
    ids = sample_ids(spec, folder, first)
    assert ids == sample_ids(spec, folder, second)
    every = [sample for split in ids.values() for sample in split]
    assert len(set(every)) == len(every), "no sample is in two splits, or twice in one"
    assert {split: len(samples) for split, samples in ids.items()} == first.spec.samples


@every_source
def test_fields_and_splits_are_those_of_the_batches(name, tmp_path, monkeypatch):
    folder = tmp_path / "files"
    if CASES[name].write is not None:
        CASES[name].write(folder, monkeypatch)
    spec, data = built(name, folder, tmp_path / "cache")
    assert set(data.manifest.splits) == set(data.spec.samples) == {"train", "val", "test"}
    fields = BOX_FIELDS if CASES[name].target == "boxes" else (CASES[name].target,)
    assert set(data.manifest.fields) == set(data.spec.fields) == {CASES[name].beside, *fields, *CASES[name].also}
    if (published := prepared_without_files(spec)) is not None:
        assert published.spec.fields == data.spec.fields, "a plan without files knows the same shapes"
        assert published.key == data.key
    batch = next(iter(loader_for(spec, data.root, "train", seed=0, shuffle=False)))
    target = CASES[name].target
    assert {CASES[name].beside, target, "valid"} <= set(batch)
    numbers = np.asarray(batch["box_label" if target == "boxes" else target])
    kind = data.spec.fields[target].kind
    assert kind in ("numbers", "text") or numbers[numbers != VOID].max() < data.spec.num_classes
    if target == "mask":
        assert batch["mask"].shape == (len(batch["image"]), *batch["image"].shape[2:])
