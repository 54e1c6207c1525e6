from pathlib import Path

import pytest

from expflow.config import FileAddress, MlflowAddress, NameAddress, parse_address
from expflow.errors import AddressUnknown


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("experiments/a.yaml", FileAddress(Path("experiments/a.yaml"))),
        ("a.yml", FileAddress(Path("a.yml"))),
        ("resnet_depth", NameAddress("resnet_depth")),
        ("resnet_depth+model.depth=56", NameAddress("resnet_depth+model.depth=56")),
        ("resnet_depth.2/best", NameAddress("resnet_depth.2", "best")),
        ("resnet_depth/3fa9", NameAddress("resnet_depth", "3fa9")),
        ("mlflow:1f0c", MlflowAddress("1f0c")),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "..", "/etc", "a/b/c", "a/worst", "../best", "mlflow:", "a/", "a/3FA9"])
def test_no_addresses(text):
    with pytest.raises(AddressUnknown):
        parse_address(text)


def test_a_forgotten_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "a.yaml").touch()
    with pytest.raises(AddressUnknown, match=r"did you mean experiments/a\.yaml\?"):
        parse_address("experiments/a")
