from pathlib import Path

import pytest

from expflow.config import load_site
from expflow.config.variables import unknown_variables
from expflow.errors import ExperimentInvalid


@pytest.fixture
def places(tmp_path):
    cwd, user = tmp_path / "work", tmp_path / "config" / "expflow"
    cwd.mkdir()
    user.mkdir(parents=True)
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path / "home")}
    return cwd, user, env


def test_without_a_site_file(places):
    cwd, _, env = places
    site = load_site(cwd, env)
    assert (site.storage, site.cache) == ("runs", Path(env["HOME"]) / ".cache" / "expflow")
    assert (site.data, site.mlflow, site.ray, site.resources, site.cache_limit) == ({}, None, None, None, None)


def test_the_environment_wins_over_the_folder_and_that_over_the_user(places):
    cwd, user, env = places
    (user / "expflow.site.yaml").write_text(
        "storage: far\nmlflow: http://a\nray: http://u\ndata: {folder: ~/pictures}\n"
    )
    (cwd / "expflow.site.yaml").write_text("mlflow: http://b\nray: http://w\ndata: {cifar: c}\ncache_limit: 1.5 GB\n")
    env |= {
        "EXPFLOW_RAY": "http://e",
        "EXPFLOW_DATA_CIFAR": "d",
        "EXPFLOW_RESOURCES_CPUS_PER_RANK": "2",
        "EXPFLOW_X": "y",
    }
    site = load_site(cwd, env)
    assert (site.mlflow, site.ray, site.cache_limit) == ("http://b", "http://e", 1_500_000_000)
    assert site.storage == str(user / "far")
    assert site.data == {"folder": Path(env["HOME"]) / "pictures", "cifar": cwd / "d"}
    assert site.resources.cpus_per_rank == 2


def test_addresses_are_left_alone(places):
    cwd, _, env = places
    assert load_site(cwd, {**env, "EXPFLOW_STORAGE": "s3://bucket/runs"}).storage == "s3://bucket/runs"
    assert load_site(cwd, {**env, "EXPFLOW_STORAGE": "/abs"}).storage == "/abs"


def test_what_is_wrong_is_said_with_its_place(places):
    cwd, _, env = places
    (cwd / "expflow.site.yaml").write_text("storge: x\ncache_limit: lots\ndata:\n  folder: 3\n")
    with pytest.raises(ExperimentInvalid) as error:
        load_site(cwd, {**env, "EXPFLOW_RESOURCES_CPUS_PER_RANK": "two"})
    message = str(error.value).replace(f"{cwd}/", "")
    assert "expflow.site.yaml:1:1: storge: unknown key; nearest valid key: storage" in message
    assert "expflow.site.yaml:2:14: cache_limit: expected a size such as 50 GB, found 'lots'" in message
    assert "expflow.site.yaml:4:11: data.folder: expected text, found 3" in message
    assert "EXPFLOW_RESOURCES_CPUS_PER_RANK: resources.cpus_per_rank: expected a whole number, found 'two'" in message


def test_metrics_are_exported_only_where_it_is_said(places):
    cwd, _, env = places
    assert load_site(cwd, env).metrics is None
    (cwd / "expflow.site.yaml").write_text("metrics: {discovery: targets}\n")
    metrics = load_site(cwd, {**env, "EXPFLOW_METRICS_PORT": "9108"}).metrics
    assert (metrics.port, metrics.address, metrics.discovery) == (9108, "127.0.0.1", cwd / "targets")
    with pytest.raises(ExperimentInvalid, match=r"EXPFLOW_METRICS_PORT: metrics\.port: expected at most 65535"):
        load_site(cwd, {**env, "EXPFLOW_METRICS_PORT": "70000"})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("EXPFLOW_CACHES", "EXPFLOW_CACHE"),
        ("EXPFLOW_RESSOURCES_RANKS", "EXPFLOW_RESOURCES_RANKS"),
        ("EXPFLOW_METRIC_PORT", "EXPFLOW_METRICS_PORT"),
        ("EXPFLOW_DEBUGG", "EXPFLOW_DEBUG"),
        ("EXPFLOW_QQQQ", "docs/reference/site.md"),
    ],
)
def test_a_variable_that_nothing_reads_is_named_with_the_nearest_one(variable, meant):
    known = {"EXPFLOW_STORAGE": "x", "EXPFLOW_DATA_MINE": "y", "EXPFLOW_RANK": "z", "EXPFLOWS": "", "HOME": "/"}
    (line,) = unknown_variables({**known, variable: "1"})
    assert f"sets {variable}, which" in line
    assert meant in line
