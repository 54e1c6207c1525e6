"""Mutated bytes for the readers of checkpoints: each answer is weights or a named error, in bounded time and memory.

``python -m tests.fuzz.test_checkpoint_reader 10000 [SEED]`` tries that many of each kind; the tests try 150.
"""

import hashlib
import io
import json
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from expflow.errors import CheckpointDamaged, CheckpointUnsafe, UserError
from expflow.training.checkpoints.storage import MANIFEST, read_checkpoint_manifest
from expflow.training.checkpoints.tensor_files import read_averaged, read_weights
from tests.fuzz.test_data_readers import mutated

CPU_SECONDS = 2
GROWTH_KIB = 500 * 1024
NAMED = (CheckpointDamaged, CheckpointUnsafe, UserError)

STATE = {
    "a.weight": torch.arange(24.0).reshape(2, 3, 4).transpose(0, 1),
    "a.bias": torch.zeros(3, dtype=torch.float16),
    "count": torch.tensor(7),
    "p": torch.nn.Parameter(torch.ones(2, 2)),
}
TRAINING = {"trainer": {"callbacks": {"ema": {"means": {"a": torch.ones(2)}}, "x": [1, 2.5, b"\xff", {3}, None, 1j]}}}


def _saved(tree, **options):
    buffer = io.BytesIO()
    torch.save(tree, buffer, **options)
    return buffer.getvalue()


def _with_mutated_pickle(content, random):
    """The same archive, whole, around a mutated pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, mutated(data, random) if entry.filename.endswith("data.pkl") else data)
    return buffer.getvalue()


def _mutated_manifest(content, random):
    """A mutated manifest with a checksum that fits: that keeps nobody out who can compute one."""
    content = mutated(content, random)
    try:
        data = json.loads(content)
        data.pop("sha256", None)
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return json.dumps({**data, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return content


MANIFEST_CONTENT = json.dumps(
    {"step": 3, "config": "c", "seed": 0, "ranks": 1, "budget": {"trainer.epochs": 3}, "seconds": 1.5}
    | {"files": {"weights.pt": {"sha256": "0" * 64, "bytes": 12}}, "format": 1, "versions": {"torch": "2"}}
).encode()

READERS = {
    # name -> (what is read from the file's path, contents, how they are mutated)
    "archive": (read_weights, [_saved(STATE), _saved({"state_dict": STATE, "epoch": 1})], mutated),
    "pickle": (read_weights, [_saved(STATE)], _with_mutated_pickle),
    "state": (read_averaged, [_saved(TRAINING)], _with_mutated_pickle),
    "legacy": (read_weights, [_saved(STATE, _use_new_zipfile_serialization=False)], mutated),
    "manifest": (lambda path: read_checkpoint_manifest(path.parent), [MANIFEST_CONTENT], _mutated_manifest),
}


def attack(name, count, folder, seed=0):
    """Try ``count`` mutations on one reader: each answer is a result or a named error, within the bounds."""
    read, contents, mutate = READERS[name]
    random = np.random.default_rng(seed)
    path = folder / MANIFEST
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        content = mutate(contents[number % len(contents)], random)
        path.write_bytes(content)
        began = time.process_time()
        try:
            read(path)
        except NAMED:
            pass
        except Exception as error:
            raise AssertionError(f"{name}, mutation {number} of seed {seed}: {content!r}") from error
        assert time.process_time() - began < CPU_SECONDS, f"{name}, mutation {number} of seed {seed}: {content!r}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < GROWTH_KIB, f"{name}: {grown} KiB more"


@pytest.mark.parametrize("name", READERS)
def test_mutated_bytes_are_read_or_refused_by_name(tmp_path, name):
    attack(name, 150, tmp_path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for reader in READERS:
            attack(reader, int(sys.argv[1]), Path(scratch), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
            print(f"{reader}: {sys.argv[1]} mutations, each a result or a named error")
