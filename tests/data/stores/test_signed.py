"""A signed query opens every file, in every process of this user, and stands in nothing that is shown or shared."""

import stat

import pytest

from expflow.data.build import prepare
from expflow.data.loader import loader_for
from expflow.data.manifest import MANIFEST, read_manifest
from expflow.data.read import verify
from expflow.data.specs import Shards
from expflow.data.stores.signed import FILE, bare, keep_query, with_query
from expflow.errors import DataUnreachable
from tests.data.tiny import tiny_shards


@pytest.fixture
def source(server, tmp_path):
    """A recipe for shards on the server, whose every file has to be asked for with the query."""
    folder = tiny_shards(tmp_path / "there", [8, 8])
    for path in folder.iterdir():
        server.put(path.name, path.read_bytes())
    return lambda query: Shards(
        name="shards", path=f"{server.url}{query}", fields={"image": "png", "label": "cls"}, channels=1, batch_size=4
    )


def test_ranks_that_are_told_only_the_folder_send_it_too(source, server, tmp_path):
    data = prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    labels = [
        int(label)
        for batch in loader_for(source("?sig=SECRET"), data.root, "train", seed=0, shuffle=True)
        for label in batch["label"]
    ]
    assert sorted(labels) == list(range(16))
    assert not verify(data.root)
    assert {asked for asked, _, _ in server.requests if asked.endswith("?sig=SECRET")} == {
        asked for asked, _, _ in server.requests
    }


def test_it_stands_in_one_file_that_only_its_owner_reads(source, tmp_path):
    data = prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    assert "SECRET" not in str(data.manifest.at)
    holding = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    assert holding == [data.root / FILE]
    assert stat.S_IMODE(holding[0].stat().st_mode) == 0o600


def test_a_new_signature_takes_the_place_of_the_old_one(source, tmp_path):
    first = prepare(source("?sig=OLD"), cache=tmp_path / "cache")
    second = prepare(source("?sig=NEW"), cache=tmp_path / "cache")
    assert (second.root, second.key) == (first.root, first.key)
    assert with_query(second.root, second.manifest.at).endswith("?sig=NEW")
    prepare(source(""), cache=tmp_path / "cache")
    assert not (first.root / FILE).exists()


def test_no_message_tells_it(source, server, tmp_path):
    server.files.pop(MANIFEST)
    with pytest.raises(DataUnreachable, match="no folders to list") as raised:
        prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    assert "SECRET" not in str(raised.value)


def test_folders_have_no_query(tmp_path):
    assert bare("/data/what?") == "/data/what?"
    keep_query(tmp_path, "s3://bucket/folder")
    assert with_query(tmp_path, "/data/what?") == "/data/what?"
    assert not list(tmp_path.iterdir())


def test_the_manifest_is_whole_without_it(source, tmp_path):
    data = prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    (data.root / FILE).unlink()
    assert read_manifest(data.root).at == bare(data.manifest.at)
