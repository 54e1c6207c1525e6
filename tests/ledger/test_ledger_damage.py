"""A ledger of which a part is missing or changed: named with file and line, salvaged when its user says so.

A sealed segment whose end, a line or all of it was gone used to be read as far as it went.
"""

import json
import shutil
import tarfile
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from expflow.errors import LedgerDamaged, LedgerLocked, LedgerTooNew, StorageUnwritable
from expflow.events import TrialEnded, TrialProposed, TrialReported
from expflow.ledger import Cursor, Header, Ledger, load_state, read, writer
from expflow.ledger.records import TornRecord
from expflow.ledger.salvage import salvage

GOLDEN = Path(__file__).parents[1] / "golden" / "format1.tar.gz"


def header():
    return Header(name="depth", text="model: resnet\n", file="depth.yaml", plan="p1")


def trial_events(name, steps=3):
    yield TrialProposed(name, f"c-{name}", 0, {"model.depth": 20}, {"model": {"name": "resnet"}})
    yield from (TrialReported(name, 1, step, {"val/top1": step / 10}, step / steps) for step in range(1, steps + 1))
    yield TrialEnded(name, 1, "done", steps, 1.0)


def write_driver(folder, *trials):
    with Ledger.open(folder, header()) as ledger:
        for name in trials:
            for event in trial_events(name):
                ledger.append(event)


@pytest.fixture
def sweep(tmp_path):
    """Two drivers have ended two trials each: segments of twelve lines."""
    write_driver(tmp_path, "t1", "t2")
    write_driver(tmp_path, "t3", "t4")
    for path in (tmp_path / "ledger").glob("*.jsonl"):
        path.chmod(0o644)
    return tmp_path


def lines_of(folder, number):
    return (folder / "ledger" / f"{number:06d}.jsonl").read_bytes().splitlines(keepends=True)


def spoil(folder, number, lines):
    (folder / "ledger" / f"{number:06d}.jsonl").write_bytes(b"".join(lines))


def without(folder, number, index):
    lines = lines_of(folder, number)
    del lines[index]
    return lines


def swapped(folder, number, index):
    lines = lines_of(folder, number)
    lines[index], lines[index + 1] = lines[index + 1], lines[index]
    return lines


def half_a_line_more(folder, number):
    lines = lines_of(folder, number)
    return [*lines[:6], lines[6][:10]]


DAMAGE = {
    "cut at a line": (lambda folder, number: lines_of(folder, number)[:6], 7),
    "cut in a line": (half_a_line_more, 7),
    "emptied": (lambda folder, number: [], 1),
    "first line gone": (lambda folder, number: without(folder, number, 0), 1),
    "a line gone": (lambda folder, number: without(folder, number, 5), 6),
    "the last line gone": (lambda folder, number: lines_of(folder, number)[:-1], 12),
    "two lines swapped": (lambda folder, number: swapped(folder, number, 4), 5),
    "a line twice": (lambda folder, number: [*lines_of(folder, number)[:4], *lines_of(folder, number)[3:]], 5),
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_with_file_and_line(sweep, kind, number):
    change, line = DAMAGE[kind]
    spoil(sweep, number, change(sweep, number))
    with pytest.raises(LedgerDamaged, match=rf"{number:06d}\.jsonl:{line}: ") as caught:
        load_state(sweep)
    assert "--salvage" in str(caught.value)
    assert "of them ended" in str(caught.value)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_noticed_without_the_seal_by_the_segment_behind(sweep, kind):
    change, _ = DAMAGE[kind]
    spoil(sweep, 1, change(sweep, 1))
    (sweep / "ledger" / "000001.seal.json").unlink()
    with pytest.raises(LedgerDamaged):
        load_state(sweep)


@pytest.mark.parametrize("number", [1, 2])
def test_a_segment_that_is_gone_is_named(sweep, number):
    (sweep / "ledger" / f"{number:06d}.jsonl").unlink()
    with pytest.raises(LedgerDamaged, match=rf"{number:06d}\.jsonl is missing"):
        load_state(sweep)


def test_a_segment_of_another_sweep_is_noticed(sweep, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_driver(other, "t8", "t9")
    shutil.copy(other / "ledger" / "000001.jsonl", sweep / "ledger" / "000001.jsonl")
    with pytest.raises(LedgerDamaged, match=r"000001\.jsonl:"):
        load_state(sweep)


def test_a_seal_that_does_not_read_is_named(sweep):
    (sweep / "ledger" / "000002.seal.json").write_text("{}")
    with pytest.raises(LedgerDamaged, match=r"000002\.seal\.json does not read"):
        load_state(sweep)


def test_what_a_driver_without_its_lock_wrote_behind_the_seal_is_left_out_and_reported(sweep):
    expected = [record.body for record in read(sweep)]
    late = lines_of(sweep, 2)[3]
    spoil(sweep, 1, [*lines_of(sweep, 1), late])
    spoil(sweep, 2, [*lines_of(sweep, 2), late[:-1]])
    torn: list[TornRecord] = []
    assert [record.body for record in read(sweep, torn=torn)] == expected
    assert [(record.path.name, record.line) for record in torn] == [("000001.jsonl", 13), ("000002.jsonl", 13)]


def test_the_open_end_of_a_killed_driver_may_be_torn(sweep):
    (sweep / "ledger" / "000002.seal.json").unlink()
    spoil(sweep, 2, half_a_line_more(sweep, 2))
    state = load_state(sweep)
    assert [name for name, trial in state.trials.items() if trial.ended] == ["t1", "t2", "t3"]
    write_driver(sweep, "t5")  # seals the torn end as it is
    assert [name for name, trial in load_state(sweep).trials.items() if trial.ended] == ["t1", "t2", "t3", "t5"]
    spoil(sweep, 2, lines_of(sweep, 2)[:5])
    with pytest.raises(LedgerDamaged, match=r"000002\.jsonl:6"):
        load_state(sweep)


# Rotation


def test_a_large_segment_is_sealed_and_the_ledger_goes_on_in_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 2000)
    written = []
    with Ledger.open(tmp_path, header()) as ledger:
        for number in range(20):
            written += [ledger.append(event) for event in trial_events(f"t{number}")]
    records = list(read(tmp_path))
    assert records[1:-1] == written
    assert isinstance(records[0].body, Header)
    assert sum(isinstance(record.body, Header) for record in records) == 1
    segments = sorted((tmp_path / "ledger").glob("*.jsonl"))
    assert len(segments) > 5
    assert all(path.stat().st_size < 2400 for path in segments)
    assert all(path.with_suffix(".seal.json").exists() for path in segments)
    for before, after in pairwise(segments):
        first = json.loads(after.read_text().splitlines()[0])
        assert first["event"] == "continued"
        assert first["before"] == [json.loads(before.with_suffix(".seal.json").read_text())]


def test_an_old_segment_is_sealed_with_the_next_event(tmp_path, monkeypatch):
    with Ledger.open(tmp_path, header()) as ledger:
        events = list(trial_events("t1"))
        ledger.append(events[0])
        monkeypatch.setattr(writer, "SEGMENT_SECONDS", 0.0)
        ledger.append(events[1])
        monkeypatch.undo()
        ledger.append(events[2])
    assert [path.name for path in sorted((tmp_path / "ledger").glob("*.jsonl"))] == ["000001.jsonl", "000002.jsonl"]
    assert [record.body for record in read(tmp_path)][1:4] == events[:3]


def test_a_follower_goes_on_across_rotations_from_any_cursor(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 1500)
    with Ledger.open(tmp_path, header()) as ledger:
        for number in range(6):
            for event in trial_events(f"t{number}"):
                ledger.append(event)
    records = list(read(tmp_path))
    assert list(read(tmp_path, after=Cursor())) == records
    for index, record in enumerate(records):
        assert list(read(tmp_path, after=record.cursor)) == records[index + 1 :]


def test_a_full_disk_while_the_next_segment_is_begun_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 1500)
    events = [event for number in range(6) for event in trial_events(f"t{number}")]
    with Ledger.open(tmp_path, header()) as ledger:
        put, full = ledger._put, []

        def refuse_continuations(line):
            if b'"continued"' in line and len(full) < 3:
                full.append(line)
                raise OSError(28, "No space left on device")
            put(line)

        monkeypatch.setattr(ledger, "_put", refuse_continuations)
        for event in events:
            while True:
                try:
                    ledger.append(event)
                    break
                except OSError:
                    continue
    assert len(full) == 3
    assert [record.body for record in read(tmp_path)][1:-1] == events


# Format 1


@pytest.fixture
def format1(tmp_path):
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "runs" / "golden"


def test_format_1_is_continued_in_format_2_and_its_digests_are_recorded(format1):
    before = list(read(format1))
    newest = [record.body for record in before if isinstance(record.body, Header)][-1]
    Ledger.open(format1, newest).close("finished")
    after = list(read(format1))
    assert after[: len(before)] == before
    assert [entry["segment"] for entry in after[len(before)].body.before] == [1, 2]
    Ledger.open(format1, newest).close("finished")
    assert [entry["segment"] for entry in list(read(format1))[-2].body.before] == [3]
    path = format1 / "ledger" / "000001.jsonl"
    path.chmod(0o644)
    spoil(format1, 1, lines_of(format1, 1)[:-2])
    with pytest.raises(LedgerDamaged, match=r"000001\.jsonl:\d+: .*lines the first"):
        load_state(format1)


# Salvage


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_ledger_goes_on_from_what_is_whole(sweep, kind, number):
    change, line = DAMAGE[kind]
    whole = [record.body for record in read(sweep)]
    kept = (number - 1) * len(lines_of(sweep, 1)) + line - 1
    spoil(sweep, number, change(sweep, number))
    spoiled = {path.name: path.read_bytes() for path in (sweep / "ledger").glob("*.json*") if path.name != "lock.json"}
    result = salvage(sweep)
    assert [record.body for record in read(sweep)] == whole[:kept]
    copies = {path.name: path.read_bytes() for path in result.copy.glob("*.json*") if path.name != "lock.json"}
    assert copies == spoiled
    assert salvage(sweep) is None
    write_driver(sweep, "t5")
    assert [record.body for record in read(sweep)][:kept] == whole[:kept]
    assert load_state(sweep).trials["t5"].ended


def test_what_was_kept_and_what_was_cut_off_is_said(sweep):
    spoil(sweep, 2, [b"\n", *lines_of(sweep, 2)[1:]])
    words = str(salvage(sweep))
    assert "the ledger goes on behind 000001.jsonl, and as it was it lies in" in words
    assert words.endswith("ledger.damaged-1. Cut off: 2 ended trials")
    spoil(sweep, 1, without(sweep, 1, 5))
    assert "the ledger goes on behind line 5 of 000001.jsonl, and" in str(salvage(sweep))


def test_without_the_first_segment_the_ledger_begins_anew(sweep):
    (sweep / "ledger" / "000001.jsonl").unlink()
    with pytest.raises(LedgerDamaged, match="--salvage, which begins anew and keeps the others"):
        load_state(sweep)
    result = salvage(sweep)
    assert (result.segment, result.lines) == (0, 0)
    assert "the ledger begins anew, and" in str(result)
    assert list(read(sweep)) == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_seal_that_does_not_read_is_put_aside_and_nothing_else(sweep, number):
    whole = [record.body for record in read(sweep)]
    (sweep / "ledger" / f"{number:06d}.seal.json").write_text("{}")
    result = salvage(sweep)
    assert f"{number:06d}.seal.json does not read" in str(result)
    assert "Cut off" not in str(result)
    assert [record.body for record in read(sweep)] == whole
    assert (result.copy / f"{number:06d}.seal.json").read_text() == "{}"


def test_behind_a_seal_that_does_not_read_there_may_be_more_damage(sweep):
    (sweep / "ledger" / "000001.seal.json").write_text("{}")
    spoil(sweep, 2, without(sweep, 2, 5))
    result = salvage(sweep)
    assert (result.segment, result.lines) == (2, 5)
    assert len([*sweep.glob("ledger.damaged*")]) == 1


NEWER = {
    "format": '{"at":1.0,"n":1,"event":"header","format":3}',
    "event": '{"at":1.0,"n":1,"event":"foretold","trial":"t1"}',
}


@pytest.mark.parametrize("kind", NEWER)
def test_what_a_newer_expflow_wrote_is_no_damage_and_stays(sweep, kind):
    line = NEWER[kind].encode()
    line = line[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(line)
    (sweep / "ledger" / "000003.jsonl").write_bytes(line)
    before = {path.name: path.read_bytes() for path in (sweep / "ledger").glob("0*")}
    with pytest.raises(LedgerTooNew, match=r"000003\.jsonl:1: a newer expflow wrote this ledger: .*Update expflow"):
        load_state(sweep)
    with pytest.raises(LedgerTooNew):
        salvage(sweep)
    assert {path.name: path.read_bytes() for path in (sweep / "ledger").glob("0*")} == before
    assert not list(sweep.glob("ledger.damaged*"))


def test_a_ledger_that_cannot_be_locked_is_named(sweep, monkeypatch):
    spoil(sweep, 1, without(sweep, 1, 5))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(sweep / "ledger" / "lock"))

    monkeypatch.setattr("expflow.ledger.lock.os.open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageUnwritable, match=r"lock cannot be written: Permission denied"):
        salvage(sweep)


def test_a_missing_segment_is_salvaged_too(sweep):
    write_driver(sweep, "t5")
    whole = [record.body for record in read(sweep)]
    kept = len(lines_of(sweep, 1))
    (sweep / "ledger" / "000002.jsonl").unlink()
    result = salvage(sweep)
    assert (result.segment, result.lines) == (1, kept)
    assert [record.body for record in read(sweep)] == whole[:kept]


def test_salvage_needs_the_lock_and_damage(sweep):
    assert salvage(sweep) is None
    with Ledger.open(sweep, header()), pytest.raises(LedgerLocked):
        salvage(sweep)
    assert not list(sweep.glob("ledger.damaged*"))


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_kill_during_salvage_leaves_what_can_be_salvaged_again(sweep, monkeypatch, moment):
    write_driver(sweep, "t5")
    whole = [record.body for record in read(sweep)]
    spoil(sweep, 1, without(sweep, 1, 5))
    calls = []

    def counted(function):
        def call(*arguments, **options):
            if "lock" not in arguments[0].name:  # a killed process frees the lock by its death
                calls.append(function)
                if len(calls) == moment:
                    raise KeyboardInterrupt
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr(Path, "replace", counted(Path.replace))
        try:
            salvage(sweep)
        except KeyboardInterrupt:
            pass
        else:
            assert len(calls) < moment
    salvage(sweep)
    assert [record.body for record in read(sweep)] == whole[:5]


@pytest.mark.parametrize("step", ["copytree", "rename"])
def test_a_disk_without_room_for_the_copy_is_named_and_changes_nothing(sweep, monkeypatch, step):
    spoil(sweep, 1, without(sweep, 1, 5))
    before = {path.name: path.read_bytes() for path in (sweep / "ledger").glob("*.jsonl")}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((shutil, "copytree", full) if step == "copytree" else (Path, "rename", full)))
        with pytest.raises(StorageUnwritable, match="No space left on device"):
            salvage(sweep)
    assert {path.name: path.read_bytes() for path in (sweep / "ledger").glob("*.jsonl")} == before
    assert not list(sweep.glob("*ledger.damaged*"))
    assert salvage(sweep) is not None


@pytest.mark.parametrize(
    "data",
    [
        {"samples": {"val": "9" * 5000}},
        {"samples": {"val": None}},
        {"samples": [397]},
        {"spec": {"samples": {"val": -1.5}}},
        {"spec": {"classes": 10}},
        {"spec": []},
        {"key": {}},
        {"remarks": 3},
    ],
)
def test_a_header_whose_data_are_of_another_form_is_damaged(data):
    plain = header().to_json()
    assert Header.from_json({**plain, "data": {"key": "k", "spec": None, "samples": {"val": 3}}}).samples == {"val": 3}
    with pytest.raises(TypeError):
        Header.from_json({**plain, "data": data})
