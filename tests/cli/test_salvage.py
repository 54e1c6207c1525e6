"""A damaged ledger as its user meets it: the command that names it, and the one that goes on."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from expflow import cli

GOLDEN = Path(__file__).parents[1] / "golden" / "format1.tar.gz"


def expflow(*arguments):
    done = subprocess.run([sys.executable, "-m", "expflow", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """Finished results of which the newest sealed segment has lost its second half."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    code, _, error = expflow("train", "golden.yaml")  # sealed, in format 2
    assert code == 0, error
    ledger = tmp_path / "runs" / "golden+train" / "ledger" / "000001.jsonl"
    ledger.chmod(0o644)
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[: len(lines) // 2]))
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_damage_is_named_and_the_sweep_goes_on_from_what_is_whole(damaged):
    for command in (("status", "golden+train"), ("report", "golden+train"), ("train", "golden.yaml")):
        code, printed, error = expflow(*command)
        assert code == 3, printed
        assert "000001.jsonl:" in error
        assert "--salvage" in error
        assert "Traceback" not in error
    before = (damaged / "runs/golden+train/ledger/000001.jsonl").read_bytes()
    code, printed, error = expflow("train", "golden.yaml", "--salvage")
    assert code == 0, error
    assert "SalvagedLedger" not in printed
    copy = damaged / "runs" / "golden+train" / "ledger.damaged-1"
    assert f"and as it was it lies in {copy}\n" in printed
    assert (damaged / "runs/golden+train/ledger.damaged-1/000001.jsonl").read_bytes() == before
    code, printed, _ = expflow("status", "golden+train")
    assert code == 0
    assert "1 done" in printed
    shutil.rmtree(damaged / "runs/golden+train/ledger.damaged-1")
    code, printed, error = expflow("train", "golden.yaml", "--salvage")
    assert code == 0, error
    assert "nothing to salvage" in printed


def test_one_damaged_ledger_hides_no_other(damaged):
    shutil.copytree(damaged / "runs/golden+train", damaged / "runs/other")
    (damaged / "runs/other/ledger/000001.jsonl").unlink()
    code, printed, error = expflow("status")
    assert code == 3
    rows = [line.split("  ")[0].strip() for line in printed.splitlines()]
    assert {"golden", "golden+train", "other"} <= set(rows)
    assert printed.count("the ledger does not read, see below") == 2
    assert "--salvage" in error
    assert "did you mean golden?" in expflow("status", "goldn")[2]


def test_status_says_that_a_last_line_was_not_finished(tmp_path, monkeypatch, capsys):
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    ledger = max((tmp_path / "runs/golden/ledger").glob("*.jsonl"))
    ledger.chmod(0o644)
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 20])
    for words in (["status", "golden"], ["status"], ["report", "golden"]):
        with pytest.raises(SystemExit) as left:
            cli.main(words)
        assert not left.value.code
        printed = capsys.readouterr().out
        if words == ["status", "golden"]:
            assert f"{ledger.name}:" in printed
            assert "the last record was not finished and is left out (19 bytes)" in printed
        assert "the ledger does not read" not in printed
