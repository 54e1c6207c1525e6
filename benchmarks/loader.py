"""How fast training images come: expflow's loader beside those that people use, and beside what the machine could do.

Every loader gets the same JPEGs (500x375, 64 to 110 KB), keeps them in its own format, written with its own tools, and
then decodes them, takes a RandomResizedCrop of 224 pixels, flips, and makes batches of 64. Two columns: in one process
on one core (expflow: one decoding thread), and with two workers (expflow: two threads) on all cores. Each loader lives
in a process of its own, and they take short turns, one pass over all images each, after a pass that is not timed. What
is claimed is the median over the rounds of the ratio within a round. expflow takes part twice: with the files as they
are, and, where jpegtran is installed, with restart markers put in by the build, which change no pixel. The peers are
torchvision's ImageFolder, webdataset, litdata and mosaicml-streaming as they are documented, in an environment of their
own that uv makes once.

    python benchmarks/loader.py [--images 500] [--rounds 7] [--ours-only] [--peers FOLDER]
    python benchmarks/loader.py --feed      a small model fed by the loader, beside the same model on one batch
    python benchmarks/loader.py --start     the first batch from 10,000 shards, and from S3 on the loopback
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loading import expflow_loader, first_batch, loader_race, model_feed
from loading.photographs import make

Figure = dict[str, Any]


def decode_alone(images: Path, rounds: int) -> float:
    """Whole images per second that libjpeg-turbo decodes on one core, files in memory: the bound of decoding all."""
    import simplejpeg

    contents = [path.read_bytes() for path in sorted(images.glob("*/*.jpg"))[:500]]
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for content in contents:
            simplejpeg.decode_jpeg(content)
        seconds.append(time.perf_counter() - start)
    return len(contents) / statistics.median(seconds)


def read_alone(images: Path, cache: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Samples per second that are read from shards and not decoded: ours, and tarfile's way as webdataset reads."""
    from expflow.data.stores import ShardCache
    from expflow.data.streaming.sample_reader import SplitShards

    prepared = expflow_loader.prepared(images, cache)
    shards = [prepared.root / shard.name for shard in prepared.manifest.shards("train")]
    samples = prepared.manifest.samples("train")
    split = SplitShards(prepared.root, prepared.manifest, "train", samples, ShardCache(prepared.root.parent))
    mine, theirs = [], []
    for _ in range(rounds):
        start, count = time.perf_counter(), 0
        for number in range(len(split.shards)):
            with split.opened(number) as shard:
                for row in range(len(shard.index)):
                    count += bool({field: bytes(value) for field, value in shard.values(row).items()})
        mine.append(count / (time.perf_counter() - start))
        start = time.perf_counter()
        count = sum(len(list(tar_samples(path))) for path in shards)
        theirs.append(count / (time.perf_counter() - start))
    return mine, theirs


def tar_samples(path: Path) -> Iterable[dict[str, bytes]]:
    """The samples of a tar by the standard library's stream reader."""
    sample, current = {}, ""
    with tarfile.open(path, mode="r|*") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            if key != current:
                if sample:
                    yield sample
                sample, current = {}, key
            file = tar.extractfile(member)
            sample[extension] = file.read() if file else b""
    if sample:
        yield sample


def figure(
    name: str, mine: list[float], theirs: list[float], peer: str, unit: str = "images/s", better: str = "higher"
) -> Figure:
    """One line of the claims: medians, and the median of the ratios."""
    return {
        "name": name,
        "ours": round(statistics.median(mine), 3),
        "peer": round(statistics.median(theirs), 3),
        "ratio": round(loader_race.ratio(mine, theirs), 3),
        "peer_name": peer,
        "unit": unit,
        "better": better,
    }


def compare(options: argparse.Namespace, images: Path) -> list[Figure]:
    """All loaders in turn, and the two bounds."""
    peers = None
    if not options.ours_only:
        peers = loader_race.environment(options.peers)
        loader_race.prepare_peers(peers, images, options.cache)
        print(f"peers: {loader_race.versions(peers)}", flush=True)
    mine = [loader_race.OURS, *([loader_race.MARKED] if shutil.which("jpegtran") else [])]
    for name in mine:
        expflow_loader.prepared(images, options.cache, marked=name == loader_race.MARKED)
    names = [*mine, *(loader_race.PEERS if peers else [])]
    rates = loader_race.race(names, images, options.cache, peers, options.rounds, loader_race.COLUMNS)
    read, by_tarfile = read_alone(images, options.cache, options.rounds)
    decoded, reading = decode_alone(images, options.rounds), statistics.median(read)
    alone = statistics.median(rates["in_process"][loader_race.OURS])
    print(f"decoding alone, whole images on one core: {decoded:.0f} images/s; we reach {alone / decoded:.0%} of it")
    print(f"reading alone: {reading:.0f} samples/s; we reach {alone / reading:.1%} of it")
    figures = [figure("read_vs_tarfile", read, by_tarfile, "tarfile, as webdataset reads", "samples/s")]
    for column, rows in rates.items():
        figures += compared(column, rows)
    return figures


def compared(column: str, rows: dict[str, list[float]]) -> list[Figure]:
    """A column's figures: beside webdataset, and beside the best of all in that column."""
    mine = {name: rows[name] for name in (loader_race.OURS, loader_race.MARKED) if name in rows}
    others = {name: values for name, values in rows.items() if name not in mine}
    if not others:
        return []
    figures = []
    for called, values in mine.items():
        best = min(others, key=lambda name: loader_race.ratio(values, others[name]))
        ratios = ", ".join(f"{loader_race.ratio(values, other):.2f} times {name}" for name, other in others.items())
        print(f"{column}: {called} {ratios}")
        suffix = "" if called == loader_race.OURS else "_with_restart_markers"
        figures += [
            figure(f"{column}_vs_webdataset{suffix}", values, others["webdataset"], "webdataset"),
            figure(f"{column}_vs_best{suffix}", values, others[best], best),
        ]
    return figures


def feed(options: argparse.Namespace, images: Path) -> list[Figure]:
    """The share of its speed on one batch that a model keeps when the loader feeds it."""
    fed, alone = model_feed.feed(images, options.cache, options.rounds)
    made = figure("feed_share", fed, alone, "the same model on one batch again and again")
    print(f"fed by a loader that could give twice as much, the model keeps {made['ratio']:.1%} of its speed")
    return [made]


def start(options: argparse.Namespace, images: Path) -> list[Figure]:
    """Seconds to the first batch of a fresh process."""
    photographs = [path.read_bytes() for path in sorted(images.glob("*/*.jpg"))]
    local, remote = options.cache / "start-local", options.cache / "start-s3"
    first_batch.write_shards(
        local, first_batch.SHARDS, first_batch.SHARD_SAMPLES, first_batch.small(photographs), (3, 64, 85)
    )
    first_batch.write_shards(remote, first_batch.S3_SHARDS, first_batch.S3_SHARD_SAMPLES, photographs, (3, 375, 500))
    first = [first_batch.timed("local", local)["first_batch"] for _ in range(options.rounds)]
    print(f"the first batch from {first_batch.SHARDS:,} shards on this machine: {statistics.median(first):.2f} s")
    with first_batch.s3_server(remote) as address:
        manifest = first_batch.elsewhere(remote, address, options.cache / "start-s3-manifest")
        turns = [first_batch.timed("s3", manifest, address) for _ in range(options.rounds)]
    batch, plain = [turn["first_batch"] for turn in turns], [turn["fetch"] for turn in turns]
    print(
        f"the first batch from S3 on the loopback: {statistics.median(batch):.2f} s, a plain fetch of the shards that"
        f" it needs {statistics.median(plain):.2f} s"
    )
    return [
        figure("first_batch_10000_shards", first, [2.0] * len(first), "what is wanted", "s", "lower"),
        figure("first_batch_s3", batch, plain, "a plain fetch of the same shards by s3fs", "s", "lower"),
    ]


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    home = Path.home() / ".cache" / "expflow-benchmarks" / "loader"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=home, help="where images and shards are kept")
    parser.add_argument("--peers", type=Path, default=home / "environment", help="the peers' environment")
    parser.add_argument("--ours-only", action="store_true", help="without the peers")
    parser.add_argument("--feed", action="store_true", help="measure how well a model is fed, and nothing else")
    parser.add_argument("--start", action="store_true", help="measure the first batch, and nothing else")
    options = parser.parse_args()
    options.cache = options.cache / f"{options.images}-images"
    options.cache.mkdir(parents=True, exist_ok=True)
    images = make(options.cache, options.images)
    measure = feed if options.feed else start if options.start else compare
    print(json.dumps({"figures": measure(options, images)}))


if __name__ == "__main__":
    main()
