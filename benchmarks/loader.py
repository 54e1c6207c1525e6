"""How fast training images come: expflow's loader beside those that people use, and beside what the machine could do.

Every loader gets the same JPEGs (500x375, 64 to 110 KB), keeps them in its own format, written with its own tools, and
then decodes them, takes a RandomResizedCrop of 224 pixels, flips, and makes batches of 64. What is timed is the second
pass over everything: in one process on one core (expflow: one decoding thread), and with two workers (expflow: two
threads) on all cores. All run in turn, each in a process of its own; figures are medians over the rounds. The peers are
torchvision's ImageFolder, webdataset, litdata and mosaicml-streaming as they are documented, in an environment of their
own that uv makes in the cache folder.

    python benchmarks/loader.py [--images 2000] [--rounds 3] [--ours-only]
    python benchmarks/loader.py --feed        a small model fed by the loader, beside the same model fed by nothing
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loading.photographs import make

HERE = Path(__file__).parent
PEERS_SCRIPT = HERE / "loading" / "peers.py"
PEERS = ("webdataset", "ImageFolder", "litdata", "mosaicml-streaming")
PACKAGES = ("torch>=2.15,<2.16", "torchvision>=0.29,<0.30", "webdataset", "litdata", "mosaicml-streaming")
COLUMNS = {"in_process": 0, "two_workers": 2}
BATCH, SIZE = 64, 224
FEED_ROUNDS, FEED_STEPS = 5, 20
Figure = dict[str, Any]


def recipe(images: Path) -> Any:
    """The spec of the folder of JPEGs, kept as they are, with the transforms of training on ImageNet."""
    from expflow.data.specs import Folder

    return Folder.model_validate(
        {
            "name": "folder",
            "path": images,
            "stored": "original",
            "image_size": SIZE,
            "val_fraction": 0,
            "test_fraction": 0,
            "batch_size": BATCH,
            "train": {"random_resized_crop": {}, "flip": 0.5},
        }
    )


def loader(images: Path, cache: Path, threads: int) -> Any:
    """expflow's loader of the training split, as a trial has it."""
    from expflow.data.build import prepare
    from expflow.data.loader import loader_for

    spec = recipe(images)
    return loader_for(spec, prepare(spec, cache=cache / "ours").root, "train", seed=0, shuffle=True, threads=threads)


def one_pass(batches: Iterable[dict[str, Any]]) -> int:
    """Images of one pass."""
    return sum(len(batch["image"]) for batch in batches)


def timed(batches: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Images and seconds of the second of two passes."""
    one_pass(batches)
    start = time.perf_counter()
    count = one_pass(batches)
    return {"images": count, "seconds": time.perf_counter() - start}


def run(command: list[str], *, pinned: bool) -> float:
    """Images per second that a process of its own found; ``pinned`` to one core."""
    core = {min(os.sched_getaffinity(0))}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core if pinned else before)  # the child inherits it
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    finally:
        os.sched_setaffinity(0, before)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found["images"] / found["seconds"]


def ours(images: Path, cache: Path, workers: int) -> float:
    """Images per second of expflow with as many decoding threads as workers, at least one."""
    command = [sys.executable, __file__, "--as-ours", str(images), str(cache), str(max(workers, 1))]
    return run(command, pinned=workers == 0)


def peer(name: str, images: Path, cache: Path, workers: int) -> float:
    """Images per second of one of the peers."""
    command = [str(environment(cache)), str(PEERS_SCRIPT), name, str(images), str(cache / "peers"), str(workers)]
    return run(command, pinned=workers == 0)


def environment(cache: Path) -> Path:
    """The interpreter of the peers' environment, which is made once: mosaicml-streaming wants an older numpy."""
    folder, uv = cache.parent / "environment", Path(sys.executable).with_name("uv")
    python = folder / "bin" / "python"
    if not (folder / ".complete").exists():
        subprocess.run([str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([str(uv), "pip", "install", "--quiet", "--python", str(python), *PACKAGES], check=True)
        (folder / ".complete").touch()
    return python


def prepare_peers(images: Path, cache: Path) -> None:
    """Have each peer write its own format."""
    (cache / "peers").mkdir(exist_ok=True)
    command = [str(environment(cache)), str(PEERS_SCRIPT), "prepare", str(images), str(cache / "peers")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the peers' data cannot be written:\n{done.stderr[-3000:]}")


def measure_loaders(images: Path, cache: Path, rounds: int, *, peers: bool) -> dict[str, dict[str, float]]:
    """Column -> loader -> images per second, the median of ``rounds`` in which all take turns."""
    names = ("expflow", *(PEERS if peers else ()))
    found: dict[str, dict[str, list[float]]] = {column: {name: [] for name in names} for column in COLUMNS}
    for number in range(rounds):
        for column, workers in COLUMNS.items():
            for name in names:
                call = ours if name == "expflow" else lambda *arguments, name=name: peer(name, *arguments)
                found[column][name].append(call(images, cache, workers))
            shown = ", ".join(f"{name} {values[-1]:.0f}" for name, values in found[column].items())
            print(f"round {number + 1}, {column}: {shown} images/s", flush=True)
    return {
        column: {name: statistics.median(values) for name, values in rows.items()} for column, rows in found.items()
    }


def decode_alone(images: Path, rounds: int) -> float:
    """Whole images per second that libjpeg-turbo decodes on one core, files in memory: the bound of decoding all."""
    import simplejpeg

    contents = [path.read_bytes() for path in sorted(images.glob("*/*.jpg"))[:500]]
    seconds = []
    for _ in range(max(rounds, 2)):
        start = time.thread_time()
        for content in contents:
            simplejpeg.decode_jpeg(content)
        seconds.append(time.thread_time() - start)
    return len(contents) / statistics.median(seconds)


def read_alone(images: Path, cache: Path, rounds: int) -> tuple[float, float]:
    """Samples per second that are read from shards and not decoded: ours, and tarfile's way as webdataset reads."""
    from expflow.data.build import prepare
    from expflow.data.streaming.reading import read_samples

    prepared = prepare(recipe(images), cache=cache / "ours")
    shards = [prepared.root / shard.name for shard in prepared.manifest.shards("train")]
    mine, theirs = [], []
    for _ in range(max(rounds, 3)):
        start = time.perf_counter()
        read = read_samples(prepared.root, prepared.manifest, "train")
        count = sum(bool({field: bytes(value) for field, value in values.items()}) for _, values in read)
        mine.append(count / (time.perf_counter() - start))
        start = time.perf_counter()
        count = sum(len(list(tar_samples(path))) for path in shards)
        theirs.append(count / (time.perf_counter() - start))
    return statistics.median(mine), statistics.median(theirs)


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


def figure(name: str, mine: float, theirs: float, peer_name: str, unit: str = "images/s") -> Figure:
    """One line of the claims."""
    named = {"name": name, "ours": round(mine, 1), "peer": round(theirs, 1), "peer_name": peer_name}
    return {**named, "unit": unit, "better": "higher"}


def compare(options: argparse.Namespace, images: Path) -> list[Figure]:
    """All loaders in turn, and the two bounds."""
    medians = measure_loaders(images, options.cache, options.rounds, peers=not options.ours_only)
    read, by_tarfile = read_alone(images, options.cache, options.rounds)
    decoded = decode_alone(images, options.rounds)
    alone = medians["in_process"]["expflow"]
    print(f"decoding alone, whole images on one core: {decoded:.0f} images/s; we reach {alone / decoded:.0%} of it")
    print(f"reading alone: {read:.0f} samples/s, tarfile {by_tarfile:.0f}; we reach {alone / read:.0%} of it")
    figures = [figure("read_vs_tarfile", read, by_tarfile, "tarfile, as webdataset reads", "samples/s")]
    for column, rows in medians.items():
        others = {name: value for name, value in rows.items() if name != "expflow"}
        if not others:
            continue
        best = max(others, key=lambda name: others[name])
        for name, suffix in (("webdataset", "webdataset"), (best, "best")):
            print(f"{column}: {rows['expflow'] / others[name]:.2f} times {name}")
            figures.append(figure(f"{column}_vs_{suffix}", rows["expflow"], others[name], name))
    return figures


def small_model(width: int) -> Any:
    """A small convolutional network on uint8 images, as wide as is asked for."""
    from torch import nn

    class Scale(nn.Module):
        def forward(self, image: Any) -> Any:
            return (image.float() - 127.5) / 63.75

    layers: list[Any] = [Scale(), nn.Conv2d(3, width, 7, stride=4), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(width, width, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def stepper(width: int) -> Any:
    """A function that trains the small model on one batch."""
    import torch

    model = small_model(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(batch: dict[str, Any]) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"]).backward()
        optimizer.step()

    return step


def rate(step: Any, batches: Iterable[dict[str, Any]], steps: int) -> float:
    """Images per second of ``steps`` steps, behind one that is not counted."""
    iterator = iter(batches)
    step(next(iterator))
    start = time.perf_counter()
    count = 0
    for _, batch in zip(range(steps), iterator, strict=False):
        step(batch)
        count += len(batch["image"])
    return count / (time.perf_counter() - start)


def forever(batches: Any) -> Iterable[dict[str, Any]]:
    """Pass after pass."""
    while True:
        yield from batches


def feed(options: argparse.Namespace, images: Path) -> list[Figure]:
    """A model half as fast as the loader, on the loader's batches and on one batch again and again, in turn."""
    import torch

    torch.set_num_threads(1)
    real = loader(images, options.cache, threads=1)
    one_pass(real)
    capacity = statistics.median(rate(lambda batch: None, forever(real), FEED_STEPS) for _ in range(3))
    fixed = next(iter(real))
    width, step = 8, stepper(8)
    while rate(step, [fixed] * 4, 3) > capacity / 2:
        width += 8
        step = stepper(width)
    fed, synthetic = [], []
    for _ in range(FEED_ROUNDS):
        synthetic.append(rate(step, [fixed] * (FEED_STEPS + 1), FEED_STEPS))
        fed.append(rate(step, forever(real), FEED_STEPS))
    mine, theirs = statistics.median(fed), statistics.median(synthetic)
    print(
        f"one thread loads {capacity:.0f} images/s; a model of width {width} takes {theirs:.0f} images/s of one batch"
    )
    print(f"fed by the loader it takes {mine:.0f} images/s: {mine / theirs:.1%}")
    return [figure("feed_share", mine, theirs, "the same model on one batch again and again")]


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours-only", action="store_true", help="without the peers")
    parser.add_argument("--feed", action="store_true", help="measure how well a model is fed, and nothing else")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "expflow-benchmarks" / "loader")
    parser.add_argument("--as-ours", nargs=3, metavar=("IMAGES", "CACHE", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_ours:
        import torch

        torch.set_num_threads(1)
        images, cache, threads = options.as_ours
        print(json.dumps(timed(loader(Path(images), Path(cache), int(threads)))))
        return
    options.cache = options.cache / f"{options.images}-images"
    options.cache.mkdir(parents=True, exist_ok=True)
    images = make(options.cache, options.images)
    if not options.feed and not options.ours_only:
        prepare_peers(images, options.cache)
    print(json.dumps({"figures": feed(options, images) if options.feed else compare(options, images)}))


if __name__ == "__main__":
    main()
