"""How fast training images come: expflow's loader beside those that people use, and beside what the machine could do.

Every loader gets the same JPEGs (500x375, 64 to 110 KB), keeps them in its own format, written with its own tools, and
then decodes them, takes a RandomResizedCrop of 224 pixels, flips, and makes batches of 64. Two columns: in one process
on one core (expflow: one decoding thread), and with two workers (expflow: two threads) on all cores. Each loader lives
in a process of its own, and they take short turns, one pass over all images each, after a pass that nobody times. What
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

from loading import feeding, ours, racing, starting
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
    from expflow.data.streaming.reading import read_samples

    prepared = ours.prepared(images, cache)
    shards = [prepared.root / shard.name for shard in prepared.manifest.shards("train")]
    mine, theirs = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        read = read_samples(prepared.root, prepared.manifest, "train")
        count = sum(bool({field: bytes(value) for field, value in values.items()}) for _, values in read)
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
        "ratio": round(racing.ratio(mine, theirs), 3),
        "peer_name": peer,
        "unit": unit,
        "better": better,
    }


def compare(options: argparse.Namespace, images: Path) -> list[Figure]:
    """All loaders in turn, and the two bounds."""
    peers = None
    if not options.ours_only:
        peers = racing.environment(options.peers)
        racing.prepare_peers(peers, images, options.cache)
        print(f"peers: {racing.versions(peers)}", flush=True)
    mine = [racing.OURS, *([racing.MARKED] if shutil.which("jpegtran") else [])]
    for name in mine:
        ours.prepared(images, options.cache, marked=name == racing.MARKED)
    names = [*mine, *(racing.PEERS if peers else [])]
    found = racing.race(names, images, options.cache, peers, options.rounds, racing.COLUMNS)
    read, by_tarfile = read_alone(images, options.cache, options.rounds)
    decoded, reading = decode_alone(images, options.rounds), statistics.median(read)
    alone = statistics.median(found["in_process"][racing.OURS])
    print(f"decoding alone, whole images on one core: {decoded:.0f} images/s; we reach {alone / decoded:.0%} of it")
    print(f"reading alone: {reading:.0f} samples/s; we reach {alone / reading:.1%} of it")
    figures = [figure("read_vs_tarfile", read, by_tarfile, "tarfile, as webdataset reads", "samples/s")]
    for column, rows in found.items():
        figures += compared(column, rows)
    return figures


def compared(column: str, rows: dict[str, list[float]]) -> list[Figure]:
    """A column's figures: beside webdataset, and beside the best of all in that column."""
    mine = {name: rows[name] for name in (racing.OURS, racing.MARKED) if name in rows}
    others = {name: values for name, values in rows.items() if name not in mine}
    if not others:
        return []
    figures = []
    for called, values in mine.items():
        best = min(others, key=lambda name: racing.ratio(values, others[name]))
        said = ", ".join(f"{racing.ratio(values, other):.2f} times {name}" for name, other in others.items())
        print(f"{column}: {called} {said}")
        suffix = "" if called == racing.OURS else "_with_restart_markers"
        figures += [
            figure(f"{column}_vs_webdataset{suffix}", values, others["webdataset"], "webdataset"),
            figure(f"{column}_vs_best{suffix}", values, others[best], best),
        ]
    return figures


def feed(options: argparse.Namespace, images: Path) -> list[Figure]:
    """The share of its speed on one batch that a model keeps when the loader feeds it."""
    fed, alone = feeding.feed(images, options.cache, options.rounds)
    made = figure("feed_share", fed, alone, "the same model on one batch again and again")
    print(f"fed by a loader that could give twice as much, the model keeps {made['ratio']:.1%} of its speed")
    return [made]


def start(options: argparse.Namespace, images: Path) -> list[Figure]:
    """Seconds to the first batch of a fresh process."""
    photographs = [path.read_bytes() for path in sorted(images.glob("*/*.jpg"))]
    local, remote = options.cache / "start-local", options.cache / "start-s3"
    starting.write_shards(local, starting.SHARDS, starting.SHARD_SAMPLES, starting.small(photographs), (3, 64, 85))
    starting.write_shards(remote, starting.S3_SHARDS, starting.S3_SHARD_SAMPLES, photographs, (3, 375, 500))
    first = [starting.timed("local", local)["first_batch"] for _ in range(options.rounds)]
    print(f"the first batch from {starting.SHARDS:,} shards on this machine: {statistics.median(first):.2f} s")
    with starting.s3_server(remote) as address:
        manifest = starting.elsewhere(remote, address, options.cache / "start-s3-manifest")
        turns = [starting.timed("s3", manifest, address) for _ in range(options.rounds)]
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
