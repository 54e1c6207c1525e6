"""Files that are no weights, or not whole, or want more than they are: each is refused with its reason, at once."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from expflow import cli
from expflow.errors import CheckpointDamaged, CheckpointUnsafe, UserError
from expflow.training.checkpoints.pickle_inspection import DEEPEST, inspect_pickle
from expflow.training.checkpoints.storage import read_checkpoint_manifest
from expflow.training.checkpoints.tensor_files import load_tensors, read_weights
from expflow.training.transfer.pretrained import sha256_of

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


def saved(tree, **options):
    buffer = io.BytesIO()
    torch.save(tree, buffer, **options)
    return buffer.getvalue()


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def zipped(files, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def with_pickle(operations):
    """A file of torch.save's form with another pickle."""
    return zipped({"archive/data.pkl": operations, "archive/version": b"3\n"})


def script():
    buffer = io.BytesIO()
    files = {"m/data.pkl": b"\x80\x02.", "m/constants.pkl": b"\x80\x02.", "m/code/__torch__.py": b"x"}
    buffer.write(zipped(files))
    return buffer.getvalue()


def legacy_tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def tuples_in_tuples(depth):
    return b"\x80\x02)" + b"\x85" * depth + b"."


WHOLE = saved(WEIGHTS)
LEGACY = saved(WEIGHTS, _use_new_zipfile_serialization=False)
MEMBERS = members(WHOLE)
PICKLE = next(name for name in MEMBERS if name.endswith("data.pkl"))
STORAGE = next(name for name in MEMBERS if name.endswith("/data/0"))

NO_WEIGHTS = {
    "empty": (b"", "it is empty"),
    "text": (b"hello world, this is a note", "no file of torch.save"),
    "a web page": (b"<!DOCTYPE html><html>Sign in</html>", "it is a web page"),
    "a pointer of git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5"),
    "gzip": (b"\x1f\x8b\x08" + b"\0" * 100, "compressed with gzip"),
    "an image": (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "it is an image"),
    "safetensors": (struct.pack("<Q", 2) + b"{}", "it is a file of safetensors"),
    "safetensors, nested deeply": (struct.pack("<Q", 10**5) + b'{"a":' * 20_000, "it is a file of safetensors"),
    "numpy's arrays": (npz(), "no data.pkl.*arrays of numpy"),
    "some zip": (zipped({"word/document.xml": b"<x/>"}), "zip file with no data.pkl"),
    "torchscript": (script(), "program of TorchScript"),
    "torch before 0.4": (legacy_tar(), "it is a tar"),
    "cut off": (WHOLE[: len(WHOLE) // 2], "part of a zip file"),
    "cut off, of torch before 1.6": (LEGACY[: len(LEGACY) // 2], "pickle is broken|is missing"),
    "without its numbers": (
        zipped({k: v for k, v in MEMBERS.items() if k != STORAGE}),
        "numbers of a tensor are missing",
    ),
    "with too few numbers": (
        zipped(MEMBERS | {STORAGE: b"\0" * 8}),
        "a tensor needs 24 bytes, and 'data/0' in it has 8",
    ),
    "two pickles": (zipped(MEMBERS | {"other/data.pkl": b"\x80\x02."}), "with 2 data.pkl"),
    "one pickle twice": (zipped(MEMBERS | {PICKLE.replace("data.pkl", "DATA.PKL"): b"\x80\x02."}), "twice"),
    "a pickle of protocol 5": (pickle.dumps({"a": [1.0]}, protocol=5), "operation FRAME"),
    "a pickle without an end": (with_pickle(b"\x80\x02}q\x00"), "pickle is broken"),
    "a pickle that takes from an empty stack": (with_pickle(b"\x80\x02\x86."), "pickle is broken"),
    "deep tuples": (with_pickle(tuples_in_tuples(100_000)), f"nests more than {DEEPEST}"),
    "a million operations": (with_pickle(b"\x80\x02" + b"N" * 1_000_100 + b"."), "more than 1,000,000 operations"),
    "a call": (with_pickle(b"\x80\x02ctorch\nFloatStorage\nJ\xff\xff\xff\x7f\x85R."), "calls 'torch:FloatStorage'"),
    "bytes by their number": (
        with_pickle(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
        "makes bytes of what is no text",
    ),
    "numbers that inflate": (
        zipped(MEMBERS | {"archive/data/9": b"\0" * 40_000_000}, zipfile.ZIP_DEFLATED),
        "would unpack to 40,0",
    ),
}


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_each_kind_of_file_that_holds_no_weights_gets_its_reason(tmp_path, case):
    content, reason = NO_WEIGHTS[case]
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(CheckpointDamaged, match=reason) as caught:
        read_weights(tmp_path / "w.pt")
    assert caught.value.exit_code == 3
    assert str(tmp_path / "w.pt") in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_whole_files_of_both_forms_are_read(tmp_path):
    for number, content in enumerate((WHOLE, LEGACY, saved({"state_dict": WEIGHTS, "epoch": 3}))):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        assert {name: value.tolist() for name, value in read_weights(path).items()} == {
            name: value.tolist() for name, value in WEIGHTS.items()
        }


def test_whatever_plain_data_a_training_keeps_is_read(tmp_path):
    kept = {
        "plain": [1, -(2**40), 0.5, 1j, "ü", b"\xff\x00", None, True, {1, 2}, (3, ()), {"a": {4: []}}],
        "torch": [torch.float16, torch.device("cpu"), torch.Size([2, 3]), nn.Parameter(torch.ones(2))],
        "tensors": [torch.ones(4)[1:3], torch.ones(3, 2).t(), torch.zeros(0, 5), torch.tensor(7), torch.ones(2).half()],
        "sparse": torch.eye(3).to_sparse(),
    }
    (tmp_path / "s.pt").write_bytes(saved(kept))
    back = load_tensors(tmp_path / "s.pt")
    assert back["plain"] == kept["plain"]
    assert back["torch"][:3] == kept["torch"][:3]
    for mine, theirs in zip(back["tensors"], kept["tensors"], strict=True):
        assert torch.equal(mine, theirs)


class Gadget:
    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("form", ["zip", "bare"])
def test_what_would_run_code_is_refused_by_its_name(tmp_path, protocol, form):
    ran = tmp_path / "ran"
    evil = pickle.dumps(
        {"a": torch.float32, "b": Gadget(os.mkdir, str(ran)), "c": Gadget(eval, "1")}, protocol=protocol
    )
    (tmp_path / "w.pt").write_bytes(evil if form == "bare" else with_pickle(evil))
    with pytest.raises(
        CheckpointUnsafe, match=r"asks for builtins:eval, (posix|nt):mkdir, which is no tensor"
    ) as caught:
        read_weights(tmp_path / "w.pt")
    assert not ran.exists()
    assert caught.value.exit_code == 3
    assert "weights_only" not in str(caught.value)


def test_a_whole_network_names_its_classes(tmp_path):
    (tmp_path / "w.pt").write_bytes(saved(nn.Sequential(nn.Linear(2, 2))))
    with pytest.raises(CheckpointUnsafe, match=r"torch\.nn\.modules\.container:Sequential") as caught:
        read_weights(tmp_path / "w.pt")
    assert "state_dict() of its network" in str(caught.value)


def test_a_tensor_that_is_larger_than_its_numbers_is_refused(tmp_path):
    (tmp_path / "w.pt").write_bytes(saved({"a": torch.zeros(1).expand(10**5, 10**5)}))
    with pytest.raises(CheckpointDamaged, match="a tensor of 100000x100000 elements in a storage of 1"):
        read_weights(tmp_path / "w.pt")


def test_a_tensor_outside_of_its_numbers_is_refused(tmp_path):
    pickled = MEMBERS[PICKLE]
    assert pickled.count(b"K\x02K\x03\x86") == 1  # the shape (2, 3)
    (tmp_path / "w.pt").write_bytes(zipped(MEMBERS | {PICKLE: pickled.replace(b"K\x02K\x03\x86", b"K\x02K\x09\x86")}))
    with pytest.raises(CheckpointDamaged, match="a tensor of 2x9 elements in a storage of 6"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ([torch.ones(2)], "holds no state_dict"),
        ({"a": 3}, "holds no state_dict"),
        ({7: torch.ones(2)}, "holds no state_dict"),
        ({"a": torch.eye(3).to_sparse()}, "'a' is a sparse"),
    ],
)
def test_other_data_than_weights_are_named(tmp_path, tree, reason):
    (tmp_path / "w.pt").write_bytes(saved(tree))
    with pytest.raises(UserError, match=reason):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(tmp_path, kind):
    path = tmp_path / "w.pt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for read in (load_tensors, sha256_of):
        with pytest.raises(CheckpointDamaged, match=f"it is a {kind} and no file"):
            read(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[]", "holds no mapping"),
        (b"\xff\xfe", "does not read"),
        (b"{}", "does not read"),
        (b" " * (16 * 2**20 + 1), "more than"),
    ],
)
def test_a_manifest_that_is_none_is_damaged(tmp_path, content, reason):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointDamaged, match=reason):
        read_checkpoint_manifest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "1"},
        {"step": -1},
        {"ranks": None},
        {"files": []},
        {"files": {"../x": {"bytes": 1, "sha256": ""}}},
        {"files": {"weights.pt": 3}},
        {"files": {"weights.pt": {"bytes": "1", "sha256": ""}}},
        {"budget": 3},
    ],
)
def test_a_manifest_of_other_kinds_is_damaged_although_its_checksum_fits(tmp_path, change):
    from expflow.training.checkpoints.storage import _checksum

    manifest = {"step": 1, "config": "c", "seed": 0, "files": {}} | change
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "sha256": _checksum(manifest)}))
    with pytest.raises(CheckpointDamaged, match="is not what expflow writes"):
        read_checkpoint_manifest(tmp_path)


def test_names_are_found_through_the_memo_of_any_protocol():
    class Twice:
        def __reduce__(self):
            return (os.getcwd, ())

    content = inspect_pickle(io.BytesIO(pickle.dumps([Twice(), Twice()], protocol=4)))
    assert set(content.names) == {"posix:getcwd"}


PLAN = """\
data: {name: digits, limit: 100}
model: {name: mlp, hidden: 4}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
init: {from: ./w.pt}
trainer: {epochs: 1}
"""


@pytest.mark.parametrize(
    "kind",
    ["text", "torchscript", "cut off", "without its numbers", "deep tuples", "evil", "list", "pipe", "/dev/zero"],
)
def test_a_plan_that_begins_with_such_a_file_is_refused_at_once(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp.yaml").write_text(PLAN.replace("./w.pt", kind) if kind.startswith("/") else PLAN)
    if kind == "pipe":
        os.mkfifo("w.pt")
    elif not kind.startswith("/"):
        content = {"evil": pickle.dumps(Gadget(os.getcwd)), "list": saved([1])}
        (tmp_path / "w.pt").write_bytes(content.get(kind) or NO_WEIGHTS[kind][0])
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", "exp.yaml", "--no-time"])
    printed = capsys.readouterr().err
    assert left.value.code in (2, 3)
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert "weights_only" not in printed
