"""Folders in a store: what is sent, what a kill between two writes leaves, and what is found elsewhere."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from expflow.errors import AddressRefused, LedgerDamaged, StorageRefused, StorageUnreachable
from expflow.storage import folder_mirror, trial_folder
from expflow.storage.blob_store import BlobStore
from expflow.storage.folder_fetch import fetch_folder, manifest_tags, newest_manifest
from expflow.storage.folder_manifest import FolderManifest
from expflow.storage.folder_mirror import FolderMarker, FolderMirror
from expflow.storage.leftovers import remove_leftovers
from expflow.storage.results import StoredResults
from expflow.storage.trial_folder import StoredTrial, TrialSender, fetch_trial

CHECKPOINT = {"checkpoints/step-000000001/manifest.json": b"{}", "checkpoints/step-000000001/weights.pt": bytes(50_000)}


class Killed(BaseException):
    """What a test raises where a process would have been killed."""


class KilledStore(BlobStore):
    """A store whose writer is killed before its ``left``-th write."""

    def __init__(self, store: BlobStore, left: int) -> None:
        super().__init__(store.address, patience=0.0)
        self.left = left

    def _count(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def put(self, key, content) -> None:
        self._count()
        super().put(key, content)

    def put_file(self, key, path) -> None:
        self._count()
        super().put_file(key, path)

    def delete(self, keys) -> None:
        if keys:
            self._count()
        super().delete(keys)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_folder_is_found_elsewhere_as_it_was(store, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_mirror, "BUNDLED_BYTES", 40_000)
    files = {"ledger/000001.jsonl": b'{"a": 1}\n', "report.html": "ü".encode() * 20_000, **CHECKPOINT}
    folder = write(tmp_path / "here", files)
    mirror = FolderMirror(store, "exp", folder, "000001")
    assert mirror.send()
    assert not mirror.send()  # nothing changed
    assert fetch_folder(store, "exp", tmp_path / "there")
    assert content_of(tmp_path / "there") == files


def test_of_a_growing_file_only_new_lines_are_sent(store, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_mirror, "INLINE_BYTES", 1000)
    folder = write(tmp_path / "here", {"ledger/000001.jsonl": b""})
    mirror, sent, put = FolderMirror(store, "exp", folder, "000001"), [], store.put
    store.put = lambda key, content: (sent.append(len(content)), put(key, content))
    for number in range(60):
        with (folder / "ledger/000001.jsonl").open("ab") as file:
            file.write(f'{{"number": {number:03d}, "padding": "{"x" * 60}"}}\n'.encode())
        mirror.send()
    parts = newest_manifest(store, "exp").files["ledger/000001.jsonl"]
    assert len(parts) > 3
    assert max(sent) < 4000  # never the whole file
    write(folder, {"ledger/000001.seal.json": b"{}"})
    mirror.send()
    assert len(newest_manifest(store, "exp").files["ledger/000001.jsonl"]) == 1  # a sealed segment lies there whole
    fetch_folder(store, "exp", tmp_path / "there")
    assert content_of(tmp_path / "there") == content_of(folder)


def test_a_file_that_was_cut_and_grew_again_is_sent_anew(store, tmp_path):
    folder = write(tmp_path / "here", {"ledger/000001.jsonl": b"one\ntwo\n"})
    mirror = FolderMirror(store, "exp", folder, "000001")
    mirror.send()
    with (folder / "ledger/000001.jsonl").open("r+b") as file:
        file.truncate(4)
        file.seek(4)
        file.write(b"three\nfour\n")
    mirror.send()
    fetch_folder(store, "exp", tmp_path / "there")
    assert content_of(tmp_path / "there") == {"ledger/000001.jsonl": b"one\nthree\nfour\n"}


@pytest.mark.parametrize("left", range(6))
def test_a_kill_between_any_two_writes_leaves_one_whole_state(store, tmp_path, monkeypatch, left):
    monkeypatch.setattr(folder_mirror, "INLINE_BYTES", 100)
    before = {"a.txt": b"1" * 200, "b.txt": b"1" * 200}
    folder = write(tmp_path / "here", before)
    killed = KilledStore(store, -1)
    mirror = FolderMirror(killed, "exp", folder, "000001")
    mirror.send()
    after = {"a.txt": b"2" * 200, "b.txt": b"3" * 200, "c.txt": b"4" * 200}
    write(folder, after)
    killed.left, ended = left, False
    try:
        mirror.send()
        ended = True
    except Killed:
        pass
    fetch_folder(store, "exp", tmp_path / "there")
    assert content_of(tmp_path / "there") in ((after,) if ended else (before, after))
    # the next driver goes on from what is there, and nothing is left that is not named
    again = FolderMirror(store, "exp", folder, "000002", known=newest_manifest(store, "exp"))
    again.send()
    remove_leftovers(store, "exp", epoch=2)
    manifest = newest_manifest(store, "exp")
    assert set(store.objects("exp")) == manifest.object_keys() | {again.manifest_key}
    fetch_folder(store, "exp", tmp_path / "there")
    assert content_of(tmp_path / "there") == after


def test_what_a_replaced_writer_still_sends_does_not_count(store, tmp_path):
    old_folder = write(tmp_path / "old", {"a.txt": b"old"})
    old = FolderMirror(store, "exp", old_folder, "000001", still_mine=lambda: False)
    old.send()
    fetch_folder(store, "exp", tmp_path / "new")
    new = FolderMirror(store, "exp", tmp_path / "new", "000002", known=newest_manifest(store, "exp"))
    new.send()
    write(old_folder, {"a.txt": b"too late"})
    old.send()
    fetch_folder(store, "exp", tmp_path / "there")
    assert content_of(tmp_path / "there") == {"a.txt": b"old"}


def test_bytes_that_differ_from_the_manifest_are_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_mirror, "INLINE_FILE_BYTES", 10)
    folder = write(tmp_path / "here", {"a.txt": b"1" * 200})
    FolderMirror(store, "exp", folder, "000001").send()
    (key,) = newest_manifest(store, "exp").object_keys()
    store.put(key, b"1" * 199 + b"2")
    with pytest.raises(LedgerDamaged, match="differs from the manifest"):
        fetch_folder(store, "exp", tmp_path / "there")
    assert content_of(tmp_path / "there") == {}
    store.delete([key])
    with pytest.raises(LedgerDamaged, match="is gone although"):
        fetch_folder(store, "exp", tmp_path / "there")


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        *(([path], "leads out of the folder") for path in ("../a", "/etc/passwd", "a//b", "a/../../b", "")),
        (["a.txt/b", "a.txt"], "'a.txt' is both a file and a folder"),
        (["ok/" + 300 * "n"], "holds a name longer than 255 bytes"),
    ],
)
def test_a_manifest_names_only_files_that_the_folder_can_have(store, tmp_path, paths, why):
    folder = write(tmp_path / "here", {"a.txt": b"1"})
    mirror = FolderMirror(store, "exp", folder, "000001")
    mirror.send()
    data = json.loads(store.get(mirror.manifest_key))
    data["files"] = dict.fromkeys(paths, data["files"]["a.txt"])
    del data["sha256"]
    data["sha256"] = hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    store.put(mirror.manifest_key, json.dumps(data).encode())
    with pytest.raises(LedgerDamaged, match=why):
        fetch_folder(store, "exp", tmp_path / "there")


@pytest.mark.parametrize("wrong", [{"number": float("inf")}, {"files": {"\ud800": []}}, {"format": 2}])
def test_a_manifest_that_nobody_can_have_written_is_damage(wrong):
    body = {**json.loads(FolderManifest("000001", "w").to_bytes()), **wrong}
    del body["sha256"]
    body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    with pytest.raises(LedgerDamaged, match="s3://b/m is no manifest"):
        FolderManifest.from_bytes(json.dumps(body).encode(), "s3://b/m")


def test_a_trial_goes_on_on_another_machine(store, tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    sender = TrialSender(StoredTrial(store.address, "exp/trials/t", 1, 1, is_new=True), first)
    if store.scheme == "memory":
        sender._store = store
    sender.restore()
    write(first, {**CHECKPOINT, "reports.jsonl": b"{}\n", "log.txt": b"password"})
    assert sender._mirror.send()
    assert "log.txt" not in newest_manifest(store, "exp/trials/t").files  # a log may hold secrets until the end
    second = tmp_path / "second"
    again = TrialSender(StoredTrial(store.address, "exp/trials/t", 1, 2), second)
    again.restore()
    assert content_of(second).keys() == {*CHECKPOINT, "reports.jsonl"}
    write(first, {"checkpoints/step-000000002/manifest.json": b"{}"})
    sender.finish()  # the first one was only cut off, and comes back too late
    again.finish()
    third = tmp_path / "third"
    fetch_trial(store, "exp/trials/t", third, checkpoints=False)
    assert content_of(third).keys() == {"reports.jsonl"}
    fetch_trial(store, "exp/trials/t", third)
    assert content_of(third).keys() == {*CHECKPOINT, "reports.jsonl"}


def test_an_attempt_that_no_ledger_knows_leaves_no_manifest(store, tmp_path):
    """The first driver died before it learned that its trial had begun; to the second the trial is new."""
    for epoch in (1, 2):
        folder = tmp_path / f"machine-{epoch}"
        folder.mkdir()
        sender = TrialSender(StoredTrial(store.address, "exp/trials/t", epoch, 1, is_new=True), folder)
        if store.scheme == "memory":
            sender._store = store
        sender.restore()
        write(folder, CHECKPOINT)
        sender.finish()
    assert manifest_tags(store, "exp/trials/t") == ["000002-0001"]


def test_a_checkpoint_that_is_removed_meanwhile_is_left_out_whole(store, tmp_path):
    folder = write(tmp_path / "here", {**CHECKPOINT, "reports.jsonl": b"{}\n"})
    (folder / "checkpoints/step-000000001/manifest.json").unlink()
    FolderMirror(store, "t", folder, "000001").send()
    assert set(newest_manifest(store, "t").files) == {"reports.jsonl"}


def test_trials_without_the_manifest_that_names_them_are_damage_and_no_new_experiment(store, tmp_path):
    folder = write(tmp_path / "here", {"ledger/000001.jsonl": b"{}\n"})
    FolderMirror(store, "exp", folder, "000001").send()
    FolderMirror(store, "exp/trials/t", write(tmp_path / "t", CHECKPOINT), "000001-0001").send()
    results = StoredResults(store, tmp_path / "cache")
    results.fetch("exp")
    store.delete(["exp/manifest/000001.json"])
    with pytest.raises(LedgerDamaged, match="trials lie there, and the manifest that says"):
        results.fetch("exp")
    results.fetch("another")


@pytest.mark.parametrize("removed", ["reports.jsonl", folder_mirror.MARKER])
def test_of_a_folder_that_is_being_removed_nothing_is_sent(store, tmp_path, removed):
    """A killed driver's rank goes on for a moment, while its disk is wiped: the store keeps what it has."""
    files = {**CHECKPOINT, "reports.jsonl": b"{}\n"}
    folder = write(tmp_path / "here", files)
    mirror = FolderMirror(store, "t", folder, "000001-0001")
    mirror.send()
    (folder / removed).unlink()
    with pytest.raises(FileNotFoundError, match="being removed"):
        mirror.send()
    fetch_folder(store, "t", tmp_path / "there")
    assert content_of(tmp_path / "there") == files


@pytest.mark.parametrize("is_new", [True, False])
def test_what_was_written_into_a_folder_that_had_been_removed_counts_nowhere(store, tmp_path, is_new):
    """A checkpoint without the reports that led to it: a trial that went on from it would never have reported them."""
    folder = write(tmp_path / "here", {**CHECKPOINT, "config.yaml": b"a: 1\n"})
    sender = TrialSender(StoredTrial(store.address, "exp/trials/t", 2, 1, is_new), folder)
    if store.scheme == "memory":
        sender._store = store
    sender.restore()
    assert content_of(folder) == {"config.yaml": b"a: 1\n"}


def test_a_folder_that_the_store_was_written_from_stays(store, tmp_path):
    folder = write(tmp_path / "here", {"a.txt": b"1"})
    FolderMirror(store, "t", folder, "000001-0001").send()
    write(folder, {"a.txt": b"newer"})  # killed before it was sent
    fetch_trial(store, "t", folder)
    assert content_of(folder) == {"a.txt": b"newer"}
    (folder / folder_mirror.MARKER).unlink()
    FolderMarker.new().write(folder)
    fetch_trial(store, "t", folder)
    assert content_of(folder) == {"a.txt": b"1"}


@pytest.mark.parametrize(
    "address",
    [
        "s3://key:secret@bucket/runs",
        "s3://bucket/runs?token=x",
        "https://host/runs",
        "zip://a::s3://b/c",
        "s3://",
        "s3:///runs",
        "s3://bucket/../runs",
        "s3://bucket/./runs",
        "s3://bucket//runs",
    ],
)
def test_addresses_that_are_refused(address):
    with pytest.raises(AddressRefused):
        BlobStore(address)


def test_results_do_not_lie_in_the_memory_of_one_process(tmp_path):
    with pytest.raises(AddressRefused, match="memory of its own"):
        StoredResults.at("memory://runs", tmp_path)


def test_a_scheme_may_be_written_in_capitals():
    assert BlobStore("S3://Bucket/Runs/").address == "s3://Bucket/Runs"


@pytest.mark.parametrize("name", ["a*", "a[b]", "a#b", "a b%20ä"])
def test_no_character_of_an_address_stands_for_others(store, name):
    """Of two neighbours each lists and removes its own objects alone."""
    odd, plain = (BlobStore(f"{store.address}/{part}", patience=0.0) for part in (name, "ab"))
    for place in (odd, plain):
        for key in ("t/1", "t/2"):
            place.put(key, b"x")
    assert sorted(odd.objects("t")) == ["t/1", "t/2"]
    odd.delete(["t/1", "t/2"])
    assert (sorted(odd.objects("t")), sorted(plain.objects("t"))) == ([], ["t/1", "t/2"])


def test_a_store_that_does_not_let_us_in_says_so(tmp_path):
    if os.geteuid() == 0:
        locked = BlobStore("file:///proc/nothing/here", patience=0.0)
    else:
        (tmp_path / "shut").mkdir(mode=0o500)
        locked = BlobStore(f"file://{tmp_path}/shut/runs", patience=0.0)
    with pytest.raises(StorageUnreachable):
        locked.put("a", b"1")


def test_a_new_checkpoint_is_sent_as_soon_as_it_is_said(store, tmp_path, monkeypatch):
    monkeypatch.setattr(trial_folder, "LOOK_SECONDS", 1000.0)
    folder = write(tmp_path / "here", {"reports.jsonl": b"{}\n"})
    sender = TrialSender(StoredTrial(store.address, "exp/trials/t", 1, 1, is_new=True), folder)
    if store.scheme == "memory":
        sender._store = store
    sender.restore()
    with sender:
        write(folder, CHECKPOINT)
        sender.wake()
        end = time.monotonic() + 60
        while (manifest := newest_manifest(store, "exp/trials/t")) is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert set(CHECKPOINT) <= set(manifest.files)
    sender.finish()


def test_a_trial_does_not_begin_where_the_store_does_not_let_it_in(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/n", "AWS_SHARED_CREDENTIALS_FILE": "/n"}
    for name, value in nowhere.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(trial_folder, "_LET_IN", set())
    sender = TrialSender(StoredTrial("s3://bucket/runs", "exp/trials/t", 1, 1, is_new=True), tmp_path)
    with pytest.raises(StorageRefused, match="it does not let us in"):
        sender.restore()
