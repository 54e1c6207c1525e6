"""How soon the first batch comes: from 10,000 shards on this machine, and from S3 (a server on the loopback).

python first_batch.py local FOLDER        times the first batch of a fresh process, its imports not counted
python first_batch.py s3 ADDRESS CACHE    the same from an address, beside a plain fetch of the shards that it needs
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

SHARDS, SHARD_SAMPLES, BATCH = 10_000, 8, 64
S3_SHARDS, S3_SHARD_SAMPLES = 16, 100


def write_shards(folder: Path, shards: int, samples: int, images: list[bytes], shape: tuple[int, int, int]) -> None:
    """``shards`` shards of ``samples`` samples, which take ``images`` in turn; found there if they were made before."""
    from expflow.data.dataspec import DataSpec, FieldSpec
    from expflow.data.shards.index import index_tar
    from expflow.data.shards.manifest import MANIFEST, ShardEntry, ShardManifest, Sidecar, write_manifest
    from expflow.data.shards.writer import add_member

    if (folder / MANIFEST).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    fields, made = {"image": "jpg", "label": "cls"}, []
    for number in range(shards):
        path = folder / f"train-{number:06d}.tar"
        with path.open("wb") as tar:
            for id in range(number * samples, (number + 1) * samples):
                add_member(tar, f"{id:08d}.jpg", images[id % len(images)])
                add_member(tar, f"{id:08d}.cls", b"%d" % (id % 10))
            tar.write(bytes(1024))
        content = path.read_bytes()
        index = index_tar(content, fields).to_bytes()
        path.with_suffix(".idx").write_bytes(index)
        sidecar = Sidecar(path.with_suffix(".idx").name, len(index), hashlib.sha256(index).hexdigest())
        made.append(ShardEntry(path.name, samples, len(content), hashlib.sha256(content).hexdigest(), sidecar))
    spec = DataSpec(
        {"image": FieldSpec(shape, "uint8", varies=True), "label": FieldSpec((), "int64")},
        classes=tuple(map(str, range(10))),
        samples={"train": shards * samples},
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    write_manifest(folder, ShardManifest("benchmark", {}, fields, {"train": tuple(made)}, spec, "benchmark"))


def elsewhere(shards: Path, address: str, folder: Path) -> Path:
    """A folder with the manifest of shards that lie at ``address``, as ``data.path: s3://…`` makes it."""
    from expflow.data.shards.manifest import read_manifest, write_manifest

    manifest = read_manifest(shards)
    bare = {split: tuple(replace(shard, index=None) for shard in part) for split, part in manifest.splits.items()}
    folder.mkdir(exist_ok=True)
    write_manifest(folder, replace(manifest, at=address, splits=bare))
    return folder


def small(images: list[bytes]) -> list[bytes]:
    """The photographs, 64 pixels high: the number of shards is what counts, and 10,000 large ones fill a disk."""
    import io

    from PIL import Image

    made = []
    for content in images[:64]:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(content)).resize((85, 64)).save(buffer, "JPEG")
        made.append(buffer.getvalue())
    return made


def first_batch(folder: Path, cache: Path) -> float:
    """Seconds from nothing but imports to the first batch."""
    from expflow.data.specs import FolderSpec
    from expflow.data.stores import ShardCache
    from expflow.data.streaming.loader import Loader, LoaderConfig
    from expflow.data.streaming.thread_pool import shut_down_pools

    spec = FolderSpec.model_validate({"name": "folder", "stored": "original", "train": {"random_resized_crop": {}}})
    start = time.perf_counter()
    loader = Loader(
        LoaderConfig(
            folder,
            "train",
            batch_size=BATCH,
            seed=0,
            shuffle=True,
            workers=2,
            transform=spec,
            training=True,
            cache=ShardCache(cache),
        )
    )
    batches = iter(loader)
    next(batches)
    seconds = time.perf_counter() - start
    batches.close()
    shut_down_pools()  # or threads that read ahead would still write into the cache while it is removed
    return seconds


def needed(folder: Path, limit: int) -> list[str]:
    """The shards of the first window, which the first batch is drawn from."""
    from expflow.data.shards.manifest import read_manifest
    from expflow.data.streaming.epoch_order import EpochOrder

    shards = read_manifest(folder).shards("train")
    order = EpochOrder([shard.samples for shard in shards], 0, 0)
    windows = order.windows_of(0, limit)
    return [shards[number].name for window in order.windows[windows.start : windows.stop] for number in window]


def fetch(address: str, names: list[str]) -> float:
    """Seconds that s3fs takes for files, all at once, as it does by itself."""
    import fsspec

    files = fsspec.filesystem("s3")
    start = time.perf_counter()
    files.cat([f"{address}/{name}" for name in names])
    return time.perf_counter() - start


def timed(kind: str, folder: Path, *more: str) -> dict[str, float]:
    """The seconds that a fresh process of this script measures."""
    command = [sys.executable, __file__, kind, str(folder), *more]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def s3_server(files: Path) -> Iterator[str]:
    """The address of a bucket that holds ``files``, on a server of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    os.environ.update(
        AWS_ENDPOINT_URL=url,
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait_for(url, process)
            import fsspec

            store = fsspec.filesystem("s3")
            store.mkdir("shards")
            store.put(str(files) + "/", "shards/", recursive=True)
            yield "s3://shards"
        finally:
            process.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"{url}/moto-api/data.json"):
                return
        except OSError:
            if process.poll() is not None:
                raise SystemExit("the S3 server did not start; `pip install 'expflow[dev]'` has it") from None
            time.sleep(0.1)


def main() -> None:
    """See the module's first lines."""
    import s3fs  # noqa: F401 - imports are not what is timed
    import torch

    import expflow.data.augment.pipeline
    import expflow.data.streaming.loader  # noqa: F401

    torch.set_num_threads(1)
    kind, folder = sys.argv[1], Path(sys.argv[2])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:  # a fetch may outlive the wait for it
        seconds = {"first_batch": first_batch(folder, Path(cache))}
    if kind == "s3":
        seconds["fetch"] = fetch(sys.argv[3], needed(folder, BATCH))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
