"""A large sealed segment is read from its summary: the state stays what the whole ledger gives, and damage is seen."""

import hashlib
import math
import random
import shutil
from dataclasses import replace

import pytest

from expflow.errors import LedgerDamaged
from expflow.events import (
    ArtifactWritten,
    AttemptFailed,
    CheckpointPruned,
    CheckpointRefused,
    CheckpointSaved,
    SchedulerDecided,
    SystemMeasured,
    TrialEnded,
    TrialForked,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from expflow.ledger import Header, Ledger, SweepState, fold, load_state, read
from expflow.ledger.reader import condensed, unfinished_end
from expflow.ledger.seal import parse_seal, seal_text
from expflow.ledger.summary import SUMMARIZED_BYTES, SegmentSummary

HEADER = Header(name="depth", text="model: resnet\n" * 10, file="depth.yaml", plan="p1", metric="val/top1")
TRIALS = 8
LENGTH = 6500  # events, which are more than the smallest segment that is summarised


def random_events(seed: int):
    """Events of all kinds in an order that a ledger can have; some reports are unlike the others."""
    draw = random.Random(seed)
    names = [f"t{number}" for number in range(TRIALS)]
    attempts, steps = dict.fromkeys(names, 1), dict.fromkeys(names, 0)
    for name in names:
        yield TrialProposed(name, f"c-{name}", 0, {"model.depth": 20}, {"model": {"name": "resnet"}})
        yield TrialStarted(name, 1, "gang-1")
    for _ in range(LENGTH):
        name = draw.choice(names)
        attempt, step = attempts[name], steps[name]
        if draw.random() < 0.9:
            steps[name] = step + 1
            yield report(draw, name, attempt, step + 1)
            continue
        yield from rare_event(draw, name, attempt, step)
        if draw.random() < 0.1:  # it goes on from an earlier step
            attempts[name], steps[name] = attempt + 1, max(0, step - draw.randrange(20))
            yield AttemptFailed(name, attempt, "worker_lost", "gone")
            yield TrialStarted(name, attempt + 1, "gang-2", steps[name])
    yield TrialEnded("t0", attempts["t0"], "done", steps["t0"], 3.0, "f" * 64)


def report(draw, name, attempt, step):
    metrics = {"val/top1": draw.random(), "val/loss": draw.random()}
    unlike = draw.random()
    if unlike < 0.02:
        metrics = {"train/loss": draw.random()}
    elif unlike < 0.04:
        metrics["val/loss"] = math.inf
    elif unlike < 0.06:
        metrics["val/count"] = 7  # no float, as another ledger may have it
    missing = ["val/loss"] if unlike > 0.98 else []
    return TrialReported(name, attempt, step, metrics, step / LENGTH, missing)


def rare_event(draw, name, attempt, step):
    path = f"trials/{name}/checkpoints/step-{step}"
    yield draw.choice(
        [
            CheckpointSaved(name, attempt, step, path, "a" * 64, 10),
            CheckpointSaved(name, attempt, step, path, "b" * 64, 10),
            CheckpointRefused(name, attempt, "it is cut"),
            CheckpointPruned(name, step, path, "not needed"),
            ArtifactWritten(name, attempt, step, "filters", f"{path}.png", "image", "c" * 64, 5),
            SystemMeasured(name, attempt, step, {"system/memory": 0.5}),
            SchedulerDecided(name, attempt, step, draw.choice(["pause", "resume"])),
            TrialForked(name, "t1", step, {"model.depth": 32}),
        ]
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One driver's ledger, sealed and large; its last line is the end of the driver."""
    folder = tmp_path_factory.mktemp("written")
    with Ledger.open(folder, HEADER) as ledger:
        for event in random_events(0):
            ledger.append(event, durable=False)
    assert (folder / "ledger" / "000001.jsonl").stat().st_size > SUMMARIZED_BYTES
    return folder


@pytest.fixture(scope="module")
def whole(written):
    """The state that all its lines give."""
    return whole_state(written)


@pytest.fixture
def folder(written, tmp_path):
    """A copy of that ledger, without a summary."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def whole_state(folder, *, lean=False):
    return fold(((record.at, record.body) for record in read(folder)), SweepState(lean=lean))


def summary_file(folder):
    return folder / "ledger" / "000001.summary"


@pytest.mark.parametrize("lean", [False, True])
def test_the_state_from_a_summary_is_that_from_all_lines(folder, whole, lean) -> None:
    whole = whole_state(folder, lean=True) if lean else whole
    first = fold(condensed(folder), SweepState(lean=lean))
    assert summary_file(folder).exists()
    assert first == whole, "the reader that writes it"
    assert fold(condensed(folder), SweepState(lean=lean)) == whole, "a reader that finds it"
    assert whole.trials["t1"].reports[-1] == list(first.trials["t1"].reports)[-1]


def test_a_folder_that_cannot_be_written_is_read_all_the_same(folder, whole) -> None:
    summary_file(folder).mkdir()  # also root cannot put a file there
    assert load_state(folder) == whole


def test_whoever_comes_later_reads_the_summary(folder) -> None:
    load_state(folder)
    seal = parse_seal((folder / "ledger" / "000001.seal.json").read_bytes())
    summary = SegmentSummary.from_bytes(summary_file(folder).read_bytes(), seal)
    marked = replace(summary, lines=((1.0, replace(HEADER, name="from the summary")), *summary.lines[1:]))
    summary_file(folder).write_bytes(marked.to_bytes())
    assert load_state(folder).header.name == "from the summary"


def test_a_small_segment_gets_none(tmp_path) -> None:
    with Ledger.open(tmp_path, HEADER) as ledger:
        ledger.append(TrialProposed("t1", "c1", 0, {}, {}))
    load_state(tmp_path)
    assert not list((tmp_path / "ledger").glob("*.summary"))


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


UNFIT = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-100],
    "a flipped bit": flipped,
    "no JSON": lambda content: b"summary\n" + content,
    "of another version": lambda content: content.replace(b'"summary": 1', b'"summary": 0'),
    "of another segment": lambda content: content.replace(b'"of": "', b'"of": "0'),
}


@pytest.mark.parametrize("spoil", UNFIT.values(), ids=UNFIT)
def test_a_summary_that_does_not_fit_counts_as_none(folder, whole, spoil) -> None:
    load_state(folder)
    good = summary_file(folder).read_bytes()
    summary_file(folder).write_bytes(spoil(good))
    assert load_state(folder) == whole
    assert summary_file(folder).read_bytes() == good, "it is written anew"


def test_a_segment_that_is_damaged_later_is_an_error_in_spite_of_its_summary(folder) -> None:
    load_state(folder)
    segment = folder / "ledger" / "000001.jsonl"
    segment.chmod(0o644)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:700], *lines[701:]]))
    with pytest.raises(LedgerDamaged, match=r"000001\.jsonl:701"):
        load_state(folder)


def test_what_a_later_header_says_of_the_segment_is_still_checked(folder) -> None:
    with Ledger.open(folder, HEADER):
        pass
    load_state(folder)
    ledger = folder / "ledger"
    seal = parse_seal((ledger / "000001.seal.json").read_bytes())
    content = (ledger / "000001.jsonl").read_bytes().replace(b'"event":"driver_stopped"', b'"event":"driver_stoppet"')
    other = replace(seal, sha256=hashlib.sha256(content).hexdigest())
    summary = SegmentSummary.from_bytes(summary_file(folder).read_bytes(), seal)
    (ledger / "000001.jsonl").chmod(0o644)
    (ledger / "000001.jsonl").write_bytes(content)
    (ledger / "000001.seal.json").write_bytes(seal_text(other))
    summary_file(folder).write_bytes(replace(summary, digest=other).to_bytes())
    with pytest.raises(LedgerDamaged, match=r"000002\.jsonl holds its digest"):
        load_state(folder)


def test_what_a_stale_driver_wrote_behind_the_seal_is_left_out_and_said(folder, whole) -> None:
    load_state(folder)
    segment = folder / "ledger" / "000001.jsonl"
    segment.chmod(0o644)
    with segment.open("ab") as file:
        file.write(b"late\n")
    torn = []
    assert load_state(folder, torn=torn) == whole
    assert len(torn) == len(unfinished_end(folder)) == 1
