"""Mutated YAML for the readers of experiments and site files: each answer is an experiment or a named error.

``python -m tests.fuzz.test_yaml 10000 [SEED]`` tries that many; the tests try 300.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from expflow.config import load, load_site
from expflow.config.component_argument import parse_component
from expflow.errors import UserError
from tests.fuzz.bounds import within_bounds

EXPERIMENT = """\
about: {question: "does it? \\u00e9", time: 1 minute}
data: {name: digits, batch_size: 64, train: {flip: 0.5}}
model: {name: resnet, layout: cifar, depth: 20, width: 16, shortcut: pad}
task: classification
loss: {name: cross_entropy, label_smoothing: 0.1}
optimizer: {name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 1e-4}
schedule: {name: step, every: 3}
trainer: {epochs: 10, image_sizes: [[0, 4], [5, 8]], early_stopping: {patience: 2}}
resources: {ranks: 2}
sweep:
  space:
    model.depth: [8, 20]
    optimizer.lr: {loguniform: [0.01, 2.0], when: {model.depth: 8}}
    trainer.accumulate: {int: [1, 8], step: 2}
  seeds: {screen: 1, confirm: 3, top: 2}
  searcher: {name: random, trials: 3}
  scheduler: {name: asha, min: 1}
report:
  figures: [{x: model.depth, y: val/top1}]
  contrasts: [{metric: val/top1, of: {model.depth: 8}, against: {model.depth: 20}, expect: higher}]
"""

STAGES = """\
data: digits
model: &anchor
  name: resnet
  layout: [2, {blocks: 1, width: 8}]
task: classification
optimizer: {name: adam, lr: !!float 1e-3}
sweep: {space: {"model.layout": [[1, 1], [2]]}, searcher: {name: points, points: [{model.width: 8}]}}
"""

SITE = "storage: runs\ncache: ~/cache\nprice: 1.5\ndata: {folder: images}\nresources: {ranks: 2}\n"
COMPONENT = "resnet,depth=20,width=16,layout=[1,{blocks: 2}]"

TEXTS = ("\0", "\x1b", '"\\UFFFFFFFF"', '"\\ud800"', "999999999999", "-1", "1e999", ".nan", "{", "[", "*a", "&a ")
"""What is put among the bytes besides bytes: what readers stumble over."""


def _read_experiment(folder: Path, content: bytes) -> None:
    (folder / "exp.yaml").write_bytes(content)
    load(folder / "exp.yaml").check()


def _read_site(folder: Path, content: bytes) -> None:
    (folder / "expflow.site.yaml").write_bytes(content)
    load_site(folder, {"HOME": str(folder)})


def _read_component(folder: Path, content: bytes) -> None:
    parse_component("model", content.decode("utf-8", "surrogateescape"), folder=folder)


Reader = Callable[[Path, bytes], None]
READERS: dict[str, tuple[Reader, tuple[str, ...]]] = {
    "experiment": (_read_experiment, (EXPERIMENT, STAGES)),
    "site": (_read_site, (SITE,)),
    "component": (_read_component, (COMPONENT,)),
}


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """The content with some bytes changed, taken out, doubled, moved or cut off, or a text put among them."""
    data = bytearray(content)
    for _ in range(random.integers(1, 4)):
        at, length = int(random.integers(0, max(len(data), 1))), int(random.integers(1, 24))
        match random.integers(0, 6):
            case 0:
                data[at : at + 1] = bytes([int(random.integers(0, 256))])
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at : at + length] = TEXTS[random.integers(0, len(TEXTS))].encode()
            case 4:
                data[at : at + length] = bytes([random.choice(list(b" \n:{}[],-'\"0"))]) * length
            case _:
                del data[at:]
    return bytes(data)


def attack(name: str, count: int, seed: int = 0) -> None:
    """Try ``count`` mutations on one reader: each answer is a result or a named error, within bounds."""
    read, texts = READERS[name]
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        for text in texts:
            _answer(read, Path(folder), text.encode())  # what is imported at the first time counts for no mutation
        for number in range(count):
            content = mutated(texts[number % len(texts)].encode(), random)
            what = f"{name}, mutation {number} of seed {seed}: {content!r}"
            with within_bounds(what):
                try:
                    _answer(read, Path(folder), content)
                except Exception as error:
                    raise AssertionError(what) from error


def _answer(read: Reader, folder: Path, content: bytes) -> None:
    message = ""
    try:
        read(folder, content)
    except UserError as error:
        message = str(error) or "an error without words"
    assert len(message) < 200_000
    assert message != "an error without words"


@pytest.mark.parametrize("name", READERS)
def test_mutated_yaml_is_read_or_refused_by_name(name: str) -> None:
    attack(name, 100)


if __name__ == "__main__":
    for reader in READERS:
        attack(reader, int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        print(f"{reader}: {sys.argv[1]} mutations, pid {os.getpid()}")
