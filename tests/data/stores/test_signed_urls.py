"""A signed query opens every file, in every process of a sweep, and stands in no file and in no message."""

import pytest

from expflow.data.prepare.build import prepare
from expflow.data.shards.manifest import MANIFEST, read_manifest
from expflow.data.shards.verify import verify_shards
from expflow.data.specs import ShardsSpec
from expflow.data.stores.signed_urls import keep_query, signed_addresses, with_query, without_query
from expflow.data.streaming.loader import loader_for
from expflow.errors import DataUnreachable
from tests.data.tiny import tiny_shards


@pytest.fixture
def source(server, tmp_path):
    """A recipe for shards on the server, whose every file has to be asked for with the query."""
    folder = tiny_shards(tmp_path / "there", [8, 8])
    for path in folder.iterdir():
        server.put(path.name, path.read_bytes())
    return lambda query: ShardsSpec(
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
    assert not verify_shards(data.root)
    assert {asked for asked, _, _ in server.requests if asked.endswith("?sig=SECRET")} == {
        asked for asked, _, _ in server.requests
    }


def test_it_stands_in_no_file(source, tmp_path):
    data = prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    assert "SECRET" not in str(data.manifest.at)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]


def test_a_file_of_an_earlier_version_that_held_it_is_removed(source, tmp_path):
    data = prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    (data.root / ".query").write_text("sig=SECRET")
    prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    assert not (data.root / ".query").exists()


def test_processes_of_a_trial_are_handed_it(source, server, tmp_path):
    data = prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    assert f"{data.manifest.at}?sig=SECRET" in signed_addresses()


def test_a_new_signature_takes_the_place_of_the_old_one(source, tmp_path):
    first = prepare(source("?sig=OLD"), cache=tmp_path / "cache")
    second = prepare(source("?sig=NEW"), cache=tmp_path / "cache")
    assert (second.root, second.key) == (first.root, first.key)
    assert with_query(second.manifest.at).endswith("?sig=NEW")
    prepare(source(""), cache=tmp_path / "cache")
    assert with_query(second.manifest.at) == second.manifest.at


def test_no_message_tells_it(source, server, tmp_path):
    server.files.pop(MANIFEST)
    with pytest.raises(DataUnreachable, match="no folders to list") as raised:
        prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    assert "SECRET" not in str(raised.value)


def test_folders_have_no_query():
    assert without_query("/data/what?") == "/data/what?"
    keep_query("s3://bucket/folder")
    assert with_query("/data/what?") == "/data/what?"


def test_the_manifest_is_whole_without_it(source, tmp_path):
    data = prepare(source("?sig=SECRET"), cache=tmp_path / "cache")
    assert read_manifest(data.root).at == without_query(data.manifest.at)
