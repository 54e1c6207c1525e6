import subprocess
import sys
from pathlib import Path

import pytest

from expflow.data.stores import open_root, parse_address
from expflow.errors import AddressRefused


@pytest.mark.parametrize(
    "address",
    [
        "pipe:cat /etc/passwd",
        "pipe://cat",
        "PIPE:cat",
        "cmd:dir",
        "simplecache::s3://bucket/x",
        "https://host/x::zip",
        "s3:bucket",
        "memory://x",
        "reference://x",
        "unheard://x/y",
        "file://host/x",
        "https://user:password@host/x",
        "https://user@host/x",
        "s3://key:secret@bucket/x",
        "sftp://user:password@host/x",
        "s3:///x",
        "http://",
    ],
)
def test_addresses_that_are_refused(address):
    with pytest.raises(AddressRefused) as refused:
        open_root(address)
    assert refused.value.exit_code == 3
    for secret in ("password", "secret", "passwd"):
        assert secret not in str(refused.value).replace("holds a user or a password", "")


@pytest.mark.parametrize(
    "address", ["shards", "/shards", "./a/b:c", Path("a"), "file:///shards", "file://localhost/shards"]
)
def test_local_addresses(address):
    assert open_root(address).is_local


def test_a_file_address_is_unquoted():
    assert open_root("file:///my%20shards").address == "/my shards"


@pytest.mark.parametrize("address", ["http://h/x", "HTTPS://h/x", "s3://b/x", "gs://b/x", "sftp://user@h/x"])
def test_remote_addresses(address):
    assert not parse_address(address).is_local


def test_files_of_an_address_keep_its_query_and_messages_do_not():
    where = parse_address("https://h:8080/a b/?sig=x/y")
    assert where.file_address("train-0.tar") == "https://h:8080/a b/train-0.tar?sig=x/y"
    assert where.display_file("train-0.tar") == "https://h:8080/a b/train-0.tar?…"
    assert "sig" not in repr(where)
    assert parse_address("s3://b").file_address("x/y.tar") == "s3://b/x/y.tar"


@pytest.mark.parametrize(
    "name", ["../x", "a/../x", "/x", "", ".hidden", "a//b", "a b", "x?y", "x#y", "a/", "..", "x\n"]
)
def test_names_that_lead_out_are_refused(name, tmp_path):
    with pytest.raises(AddressRefused):
        open_root(tmp_path).read_bytes(name)


def test_nothing_heavy_is_imported_for_local_shards():
    code = (
        "import sys; from expflow.data.stores import open_root; open_root('x'); open_root('http://x'); "
        "print([m for m in ('requests', 'fsspec', 's3fs', 'torch', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_missing_package_is_named():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from expflow.data.stores import open_root\n"
        "from expflow.errors import PackageMissing\n"
        "try: open_root('s3://bucket').list()\n"
        "except PackageMissing as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "s3:// addresses need s3fs; `pip install 'expflow[s3]'`\n"
