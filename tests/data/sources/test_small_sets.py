"""MNIST, Fashion-MNIST and CIFAR: as published or refused, fetched only on command, and nothing of a pickle runs."""

import gzip
import http.server
import os
import pickle
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from expflow.data.prepare.build import build, prepare
from expflow.data.shards.verify import verify_shards
from expflow.data.sources import cifar, idx
from expflow.data.specs import CIFAR10Spec, CIFAR100Spec, FashionMNISTSpec, MNISTSpec
from expflow.data.streaming.loader import Loader, LoaderConfig
from expflow.errors import DataInvalid, DataMissing
from tests.data.sources.small_sets import cifar_files, idx_files, write_cifar, write_idx
from tests.debian_packages import need_folder


@pytest.fixture
def mnist(tmp_path, monkeypatch) -> Path:
    """A folder with small files, which are taken for the published ones."""
    folder = tmp_path / "files"
    write_idx(folder, monkeypatch)
    return folder


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
def test_mnist_where_people_keep_it(mnist, below, tmp_path):
    folder = tmp_path / "kept" / below
    folder.parent.mkdir(parents=True, exist_ok=True)
    mnist.rename(folder)
    prepared = prepare(
        MNISTSpec(name="mnist", val_fraction=0.25), cache=tmp_path / "cache", site_path=tmp_path / "kept"
    )
    assert prepared.spec.samples == {"train": 30, "val": 10, "test": 10}
    assert prepared.spec.image_shape == (1, 28, 28)
    assert prepared.spec.classes == tuple("0123456789")
    assert (prepared.spec.fields, 10) == (MNISTSpec.published.fields, MNISTSpec.published.num_classes)
    assert verify_shards(prepared.root) == []
    batch = next(iter(Loader(LoaderConfig(prepared.root, "test", batch_size=10, seed=0, shuffle=False))))
    images = np.frombuffer(gzip.decompress(idx_files()["t10k-images-idx3-ubyte.gz"])[16:], np.uint8).reshape(10, 28, 28)
    by_label = {int(label): image for label, image in zip(batch["label"], batch["image"].numpy()[:, 0], strict=True)}
    assert all(np.array_equal(by_label[number], images[number]) for number in range(10))


def test_what_was_built_is_found_wherever_its_files_were(mnist, tmp_path):
    built = prepare(MNISTSpec(name="mnist"), cache=tmp_path / "cache", site_path=mnist)
    assert prepare(MNISTSpec(name="mnist"), cache=tmp_path / "cache").root == built.root


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-9], "damaged"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "expected md5 .*, found"),
        (lambda content: gzip.compress(b"\0\0\x0d\3" + gzip.decompress(content)[4:]), "expected md5"),
        (lambda content: b"", "expected md5|damaged|no IDX"),
    ],
)
def test_files_that_are_not_the_published_ones_are_refused(mnist, spoil, message, tmp_path):
    path = mnist / "train-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataInvalid, match=rf"train-images-idx3-ubyte\.gz: {message}"):
        prepare(MNISTSpec(name="mnist"), cache=tmp_path / "cache", site_path=mnist)
    path.unlink()
    with pytest.raises(DataMissing, match=r"no train-images-idx3-ubyte\.gz in .*without --from to fetch it"):
        prepare(MNISTSpec(name="mnist"), cache=tmp_path / "cache", site_path=mnist)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\1\0\0", b"\0\0\x08\3" + bytes(12), b"\0\0\x08\1\0\0\0\2x"])
def test_files_that_are_no_idx(content):
    with pytest.raises(DataInvalid, match="no IDX file of 1 axes"):
        idx.parse_idx(Path("x"), content, 1)


@pytest.fixture
def mirror(mnist, monkeypatch):
    """The published files on a server; yields the paths that were requested."""
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            if self.headers.get("Method") != "HEAD":  # how torchvision asks where an address leads
                requested.append(self.path)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=mnist))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    known = idx.published_files("mnist")
    addresses = ("http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(idx, "published_files", lambda name: idx.IdxFiles(addresses, known.md5))
    yield requested
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_a_build_on_command_fetches(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "none")
    for spec in (MNISTSpec(name="mnist"), FashionMNISTSpec(name="fashion_mnist")):
        command = f"expflow data build {spec.name}"
        with pytest.raises(DataMissing, match=f"run `{command} --from FOLDER`.*{command}"):
            prepare(spec, cache=tmp_path / "cache")
    assert not mirror
    built = build(MNISTSpec(name="mnist"), cache=tmp_path / "cache")
    assert len(set(mirror)) == 4
    requested = len(mirror)  # torchvision asks for redirections first
    assert built.spec.samples["test"] == 10
    assert prepare(MNISTSpec(name="mnist", split_seed=1), cache=tmp_path / "cache").root != built.root
    assert len(mirror) == requested, "what was fetched is kept for other splits"


def test_what_a_mirror_gives_is_checked(mirror, mnist, tmp_path):
    path = mnist / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataMissing, match=r"t10k-labels-idx1-ubyte\.gz could not be fetched: .*9/t10k.*Get it by hand"):
        build(MNISTSpec(name="mnist"), cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / "downloads" / "mnist" / path.name).exists()


def test_debians_files_are_the_published_ones_packed_anew():
    need_folder("dataset-fashion-mnist", idx.DEBIAN)
    known = idx.published_files("fashion_mnist")
    labels = idx._read("fashion_mnist", idx.DEBIAN, "t10k-labels-idx1-ubyte.gz", known, 1)
    images = idx._read("fashion_mnist", idx.DEBIAN, "t10k-images-idx3-ubyte.gz", known, 3)
    assert np.bincount(labels).tolist() == [1000] * 10
    assert images.shape == (10000, 28, 28)


@pytest.mark.parametrize(
    "spec", [CIFAR10Spec(name="cifar10"), CIFAR100Spec(name="cifar100")], ids=lambda spec: spec.name
)
def test_cifar_packed_and_not(spec, tmp_path, monkeypatch):
    known, files = write_cifar(tmp_path / "files", spec.name, monkeypatch), cifar_files(spec.name)
    from_files = build(spec, cache=tmp_path / "a", site_path=tmp_path / "files")
    for path in (tmp_path / "files" / known.folder).iterdir():
        path.unlink()
    from_archive = build(spec, cache=tmp_path / "b", site_path=tmp_path / "files")
    assert from_files.manifest == from_archive.manifest
    batches = len(known.train) * 20
    assert from_files.spec.samples == {"train": batches - batches // 10, "val": batches // 10, "test": 20}
    assert from_files.spec.classes == tuple("abcdefghij")
    assert from_files.spec.fields == spec.published.fields
    seen = next(iter(Loader(LoaderConfig(from_files.root, "test", batch_size=20, seed=0, shuffle=False))))
    rows = pickle.loads(files[known.test[0][0]])["data"].reshape(-1, 3, 32, 32)
    assert {image.tobytes() for image in seen["image"].numpy()} == {row.tobytes() for row in rows}
    (tmp_path / "files" / known.archive).write_bytes(b"x")
    with pytest.raises(DataInvalid, match="damaged"):
        build(spec, cache=tmp_path / "c", site_path=tmp_path / "files")
    (tmp_path / "files" / known.archive).unlink()
    with pytest.raises(DataMissing, match="without --from to fetch it"):
        build(spec, cache=tmp_path / "c", site_path=tmp_path / "files")


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda path: pickle.dumps({"data": _Evil(path)}), "refers to posix.mkdir"),
        (lambda path: pickle.dumps({"data": np.array([_Evil(path)])}), "refers to posix.mkdir"),
        (lambda path: pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}), "holds no batch of images"),
        (lambda path: pickle.dumps({"data": np.zeros((1, 3072)), "labels": [1]}), "holds no batch of images"),
        (lambda path: pickle.dumps([1]), "holds a list"),
        (lambda path: b"cos\nmkdir\n(S'" + path.encode() + b"'\ntR.", "refers to os.mkdir"),
        (lambda path: b"", "is refused"),
    ],
)
def test_a_pickle_runs_nothing(content, message, tmp_path, monkeypatch):
    write_cifar(tmp_path / "files", "cifar10", monkeypatch, data_batch_3=content(str(tmp_path / "ran")))
    with pytest.raises(DataInvalid, match=f"data_batch_3.*{message}"):
        build(CIFAR10Spec(name="cifar10"), cache=tmp_path / "cache", site_path=tmp_path / "files")
    assert not (tmp_path / "ran").exists()


def test_published_checksums_come_from_torchvision():
    for name in ("cifar10", "cifar100"):
        known = cifar.published_files(name)
        assert len(known.md5) == 32
        assert all(len(md5) == 32 for md5 in known.files.values())
    assert set(idx.published_files("fashion_mnist").md5) == set(idx.SHA256["fashion_mnist"])


def test_a_file_that_unpacks_to_more_than_any_has_is_given_up(mnist, tmp_path, monkeypatch):
    monkeypatch.setattr("expflow.data.sources.idx._LARGEST", 100_000)
    (mnist / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(DataInvalid, match="more than 100000 bytes come out of it"):
        prepare(MNISTSpec(name="mnist"), cache=tmp_path / "cache", site_path=mnist)
