"""Artifacts of the selected config's trials: newest step of each name, verified, escaped, within the page's limit."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from expflow.events import ArtifactWritten
from expflow.ledger.state import SweepState, TrialState
from expflow.report import build_view, write_report
from expflow.report.artifacts import artifact_section
from tests.report.states import sweep, trial


def png(side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def written(folder: Path, member: TrialState, name: str, content: bytes, step: int = 1, kind: str = "") -> Path:
    """Add an artifact to a trial as its writer and the ledger would."""
    kind = kind or ("image" if content.startswith(b"\x89PNG") else "table")
    path = folder / "trials" / str(member.seed) / name / f"step-{step}.{'png' if kind == 'image' else 'csv'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest, place = hashlib.sha256(content).hexdigest(), path.relative_to(folder).as_posix()
    event = ArtifactWritten(member.trial, 1, step, name, place, kind, digest, len(content))
    member.artifacts[name, event.artifact_kind, step] = event
    return path


@pytest.fixture
def state() -> SweepState:
    trials = [trial({"a": a}, seed, "done", {"val/top1": 0.9 - 0.1 * a}) for a in (1, 2) for seed in (0, 1)]
    return sweep(trials, report={}, space=({"key": "a", "kind": "choice", "values": [1, 2]},))


def test_two_kinds_under_one_name_are_both_kept(tmp_path, state):
    first = state.plan_trials()[0]
    written(tmp_path, first, "epoch", b"a,b\n1,2\n")
    written(tmp_path, first, "epoch", png())
    written(tmp_path, first, "epoch", png(8), step=2)
    section = artifact_section(tmp_path, state)
    assert [image.title for image in section.images] == ["epoch of a=1 s0, step 2"]
    assert [table.title for table in section.tables] == ["epoch of a=1 s0, step 1"]


def test_the_newest_step_of_each_name_of_the_selected_config_is_on_the_page(tmp_path, state):
    first, second, other, _ = state.plan_trials()
    written(tmp_path, first, "filters", png(4), step=1)
    newest = written(tmp_path, first, "filters", png(8), step=2)
    written(tmp_path, second, "confusion", b"class,cat,dog\ncat,5,1\ndog,0,7\n")
    written(tmp_path, other, "filters", png(16))
    section = artifact_section(tmp_path, state)
    assert [image.title for image in section.images] == ["filters of a=1 s0, step 2"]
    assert section.images[0].path == newest.relative_to(tmp_path).as_posix()
    (table,) = section.tables
    assert [(column.title, column.align) for column in table.table.columns] == [
        ("class", "left"), ("cat", "right"), ("dog", "right")
    ]  # fmt: skip
    assert table.table.rows == (("cat", "5", "1"), ("dog", "0", "7"))
    assert section.notes == ()
    page = write_report(tmp_path, state).html.read_text()
    assert section.images[0].source in page
    assert '<td class="right">7</td>' in page


def test_of_the_other_configs_one_trials_samples_are_shown(tmp_path, state):
    first, _, other, fourth = state.plan_trials()
    for member in (first, other, fourth):
        written(tmp_path, member, "samples", png(4), step=1)
        written(tmp_path, member, "samples", png(8), step=2)
        written(tmp_path, member, "filters", png(16))
    titles = [image.title for image in artifact_section(tmp_path, state).images]
    assert titles == ["samples of a=1 s0, step 2", "filters of a=1 s0, step 1", "samples of a=2 s0, step 2"]


def test_a_missing_and_a_changed_file_are_named_and_not_shown(tmp_path, state):
    first = state.plan_trials()[0]
    written(tmp_path, first, "gone", png()).unlink()
    path = written(tmp_path, first, "changed", png())
    path.write_bytes(png()[:-1] + b"x")
    path = written(tmp_path, first, "grown", b"a,b\n1,2\n")
    path.write_bytes(b"a,b\n1,2\n3,4\n")
    section = artifact_section(tmp_path, state)
    assert (section.images, section.tables) == ((), ())
    gone, changed, grown = section.notes
    assert gone.endswith("is missing.")
    assert "gone of a=1 s0, step 1: trials/0/gone/step-1.png" in gone
    assert "its sha256 differs" in changed
    assert "its size differs" in grown
    assert "is missing." in write_report(tmp_path, state).html.read_text()


def test_a_file_outside_of_the_results_is_not_read(tmp_path, state):
    folder, first = tmp_path / "results", state.plan_trials()[0]
    path = written(folder, first, "secret", png())
    path.rename(tmp_path / "secret.png")
    path.symlink_to(tmp_path / "secret.png")
    (note,) = artifact_section(folder, state).notes
    assert "outside of the results folder" in note


def test_what_is_no_image_and_no_table_is_said(tmp_path, state):
    first = state.plan_trials()[0]
    written(tmp_path, first, "page", b"<script>alert(1)</script>", kind="image")
    written(tmp_path, first, "empty", b"\n", kind="table")
    notes = artifact_section(tmp_path, state).notes
    assert "is no PNG file" in notes[0]
    assert "is an empty table" in notes[1]


def test_images_beyond_the_limit_are_counted(tmp_path, state, monkeypatch):
    first = state.plan_trials()[0]
    for number in range(3):
        written(tmp_path, first, f"image{number}", png())
    monkeypatch.setattr("expflow.report.artifacts.IMAGE_BYTES", 2 * len(png()))
    section = artifact_section(tmp_path, state)
    assert len(section.images) == 2
    assert section.notes[0].startswith(f"1 further image of {len(png())} bytes in all")


def test_long_and_large_tables_are_cut_and_say_so(tmp_path, state, monkeypatch):
    first = state.plan_trials()[0]
    written(tmp_path, first, "long", b"a\n" + b"1\n" * 130)
    (table,) = artifact_section(tmp_path, state).tables
    assert (len(table.table.rows), table.left_out) == (100, 30)
    assert "30 further rows in" in write_report(tmp_path, state).html.read_text()
    monkeypatch.setattr("expflow.report.artifacts.TABLE_BYTES", 100)
    assert "more than 100 bytes" in artifact_section(tmp_path, state).notes[0]


def test_cells_and_names_become_no_markup(tmp_path, state):
    first = state.plan_trials()[0]
    evil = "<script>alert(1)</script>"
    written(tmp_path, first, "table", f"{evil},b\n{evil}\n".encode())
    page = write_report(tmp_path, state).html.read_text()
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_without_artifacts_there_is_no_section(tmp_path, state):
    assert build_view(tmp_path, SweepState()).artifacts == artifact_section(tmp_path, state)
    assert "Written by" not in write_report(tmp_path, state).html.read_text()
