"""Mutated ledgers: each answer is the state that they add up to or a named error, in bounded time and memory.

``python -m tests.fuzz.test_ledger_reader 10000 [SEED]`` tries that many of each kind; the tests try 100.
"""

import contextlib
import json
import shutil
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from expflow.errors import ExpflowError, LedgerDamaged
from expflow.ledger import load_state, read
from expflow.ledger.header import Header
from expflow.ledger.reader import last_epoch, last_time, unfinished_end
from expflow.ledger.writer import Ledger
from expflow.report import terminal_text
from expflow.report.view import build_view
from expflow.sweep.result_location import has_live_driver
from tests.fuzz.bounds import within_bounds
from tests.fuzz.test_data_readers import mutated

GOLDEN = Path(__file__).parents[1] / "golden" / "format1.tar.gz"
SWEEPS = ("golden", "population", "failing")


def _ledgers(folder):
    """Ledgers in format 1, and the same in format 2 with a second segment and a seal, by name."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(folder, filter="data")
    for name in SWEEPS:
        old, new = folder / "runs" / name, folder / "runs" / f"{name}.2"
        new.mkdir()
        half = list(read(old))
        for part in (half[: len(half) // 2], half[len(half) // 2 :]):
            header = next(record.body for record in half if isinstance(record.body, Header))
            with Ledger.open(new, header) as ledger:
                for record in part:
                    if not isinstance(record.body, Header):
                        ledger.append(record.body)
    places = [place for name in SWEEPS for place in (folder / "runs" / name, folder / "runs" / f"{name}.2")]
    return {
        place.name: {
            file.name: file.read_bytes()
            for file in sorted((place / "ledger").iterdir())
            if file.name.endswith((".jsonl", ".json"))
        }
        for place in places
    }


def _mutated_file(files, random):
    """One of the files with mutated bytes."""
    name = str(random.choice(sorted(files)))
    return {**files, name: mutated(files[name], random)}


ODD = [
    None,
    True,
    -1,
    0,
    1.5,
    10**18,
    1e308,
    "",
    "x",
    "\x1b[2J",
    [],
    {},
    [[]],
    {"a": {}},
    "9" * 5000,
    {"$float": "nan"},
]
ODD += [{"$float": "inf"}, {"$float": []}, {"$float": "9" * 5000}]


def _mutated_value(value, random):
    """Plain data with one value somewhere in it replaced, taken out or nested deeply."""
    if isinstance(value, dict) and value and random.integers(0, 5):
        key = str(random.choice(sorted(value)))
        if not random.integers(0, 6):
            return {name: entry for name, entry in value.items() if name != key}
        return {**value, key: _mutated_value(value[key], random)}
    if isinstance(value, list) and value and random.integers(0, 4):
        at = int(random.integers(0, len(value)))
        return [*value[:at], _mutated_value(value[at], random), *value[at + 1 :]]
    return ODD[int(random.integers(0, len(ODD)))]


def _with_checksum(text):
    """A line of the ledger with its right checksum."""
    return text[:-1].encode() + b',"crc":"%08x"}\n' % zlib.crc32(text.encode())


def _plain(line):
    """The data of a line, which names no digests of the segments before it."""
    data = {key: value for key, value in json.loads(line).items() if key != "crc"}
    return {**data, "before": []} if "before" in data else data


def _mutated_line(files, random):
    """One line with a mutated value, where no checksum, digest or seal says so: they keep nobody out."""
    lines = {name: files[name].splitlines() for name in sorted(files) if name.endswith(".jsonl")}
    name = str(random.choice(list(lines)))
    at = int(random.integers(0, len(lines[name])))
    changed = {}
    for file, content in lines.items():
        texts = [json.dumps(_plain(line)) for line in content[:1]]
        kept = [_with_checksum(text) for text in texts] + [line + b"\n" for line in content[1:]]
        if file == name:
            text = json.dumps(_mutated_value(_plain(content[at]), random))
            if not random.integers(0, 50):
                text = '{"event":' + "[" * 20_000 + "]" * 20_000 + "}"
            kept[at] = _with_checksum(text)
        changed[file] = b"".join(kept)
    return changed


KINDS = {"bytes": _mutated_file, "lines": _mutated_line}


def _read_all(folder):
    """What commands ask of a ledger."""
    for ask in (last_time, last_epoch, unfinished_end):
        with contextlib.suppress(ExpflowError):
            ask(folder)
    with contextlib.suppress(LedgerDamaged):
        has_live_driver(folder)
    terminal_text(build_view(folder, load_state(folder)), width=80)


def attack(kind, count, folder, seed=0):
    """Try ``count`` mutated ledgers: each answer is a result or a named error, within bounds."""
    ledgers = list(_ledgers(folder).values())
    random = np.random.default_rng(seed)
    place = folder / "attacked" / "ledger"
    for number in range(-len(ledgers), count):
        files = ledgers[number % len(ledgers)]
        files = KINDS[kind](files, random) if number >= 0 else files  # what is imported at first counts for none
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
        what = f"{kind}, mutation {number} of seed {seed}"
        with within_bounds(what) if number >= 0 else contextlib.nullcontext():
            try:
                _read_all(place.parent)
            except ExpflowError:
                assert number >= 0
            except Exception as error:
                raise AssertionError(what) from error


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_ledgers_are_read_or_refused_by_name(tmp_path, kind):
    attack(kind, 100, tmp_path)


if __name__ == "__main__":
    for mutation in KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            attack(mutation, int(sys.argv[1]), Path(scratch), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        print(f"{mutation}: {sys.argv[1]} mutations, each a result or a named error")
