"""Networks that become MLflow's models: logged once, registered once, and loaded by MLflow alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.runs import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

EXPERIMENT = """
about: {question: Which rate is better?}
data: {name: digits, batch_size: 64}
model: {name: resnet, layout: cifar, depth: 8, width: 4, shortcut: pad}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
schedule: one_cycle
trainer: {epochs: 1, channels_last: true}
tracking: {models: all}
sweep:
  space: {optimizer.lr: [0.1, 0.3]}
  metric: val/top1
"""

BRANCHING = """
from torch import nn


class Branching(nn.Module):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_channels * 64, num_classes)

    def forward(self, image):
        scores = self.layer(image.flatten(1))
        return scores if float(scores.sum()) > 1e9 else scores + 1
"""

LOADER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("expflow", "pytorch_lightning", "lightning"):
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Blocker())
import mlflow
import numpy as np
import torch

torch.set_num_threads(1)
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pytorch.load_model(sys.argv[2])
batch = np.load(sys.argv[3])
with torch.no_grad():
    np.save(sys.argv[4], model(torch.from_numpy(batch)).numpy())
assert not any(name.partition(".")[0] == "expflow" for name in sys.modules)
"""


def mlflow_client(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=place.environment()["MLFLOW_TRACKING_URI"])


def own_logits(place: Workplace, trial: str, images: Path) -> Any:
    """(n, classes) what the trial's own network gives for the first batch of val, which is saved."""
    import numpy as np
    import torch

    from expflow.sweep.finished_trial import load_finished_trial
    from expflow.sweep.result_location import find_results

    location = find_results("exp", place.folder / "runs")
    finished = load_finished_trial(location, location.state.trials[trial])
    with finished.open_evaluator() as evaluator:
        weights = finished.load_weights(evaluator).weights
        evaluator.task.load_state_dict(weights)
        evaluator.task.eval()
        batch = next(iter(evaluator.batches("val")))["image"]
        torch.set_num_threads(1)
        with torch.no_grad():
            logits = evaluator.task(batch).numpy()
    np.save(images, batch.numpy())
    return logits


def test_a_registered_model_gives_the_trials_logits_without_expflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    place = Workplace(tmp_path)
    place.write(EXPERIMENT)
    place.run("sweep", "exp.yaml", timeout=900)
    client = mlflow_client(place, monkeypatch)
    experiment = client.get_experiment_by_name("exp")
    models = client.search_logged_models([experiment.experiment_id])
    assert sorted(model.name for model in models) == ["lr=0_1 s0", "lr=0_3 s0"]
    assert {str(model.status) for model in models} == {"READY"}
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    for model in models:
        run = runs[model.source_run_id]
        assert run.data.tags["expflow.model"] == model.model_id
        assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
        top1 = {metric.key: metric.value for metric in model.metrics}["val/top1"]
        assert top1 == run.data.metrics["val/top1"]
        assert len(client.get_metric_history(run.info.run_id, "val/top1")) == 1, "the run has the point once"

    for there in ("", " (it was there already)"):
        printed = place.run("show", "exp/best", "--register", "digits@champion", timeout=600)
        assert f"is version 1 of the registered model digits{there}\n" in printed
    (version,) = client.search_model_versions("name = 'digits'")
    assert client.get_model_version_by_alias("digits", "champion").version == version.version
    assert "Which rate is better?" in version.description
    assert "Rank 1 of 2: val/top1" in version.description

    trial = version.tags["expflow.trial"]
    logits = own_logits(place, trial, tmp_path / "batch.npy")
    uri = place.environment()["MLFLOW_TRACKING_URI"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = [uri, "models:/digits@champion", tmp_path / "batch.npy", tmp_path / "logits.npy"]
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONPATH": ""}
    subprocess.run([sys.executable, "-P", "-c", LOADER, *map(str, words)], cwd=elsewhere, env=environment, check=True)
    loaded = np.load(tmp_path / "logits.npy")
    assert loaded.shape == logits.shape
    assert np.abs(loaded - logits).max() <= 1e-5 * np.abs(logits).max()


def test_a_network_that_cannot_be_exported_is_named_and_the_sweep_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Workplace(tmp_path)
    (tmp_path / "own_net.py").write_text(textwrap.dedent(BRANCHING))
    model = "model: {name: 'own_net:Branching'}"
    text = EXPERIMENT.replace(EXPERIMENT.splitlines()[3], model).partition("sweep:")[0]
    place.write(text.replace("channels_last: true", "channels_last: false"))
    printed = place.run("train", "exp.yaml", timeout=900)
    assert "no model of base recipe s0: " in printed
    client = mlflow_client(place, monkeypatch)
    experiment = client.get_experiment_by_name("exp")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`expflow.role` = 'trial'")
    assert run.data.tags["expflow.model"].startswith("not exported: ")
    assert run.info.status == "FINISHED"
    assert client.search_logged_models([experiment.experiment_id]) == []
    refused = place.run("show", "exp/best", "--register", "own", code=2, timeout=600)
    assert "cannot be exported" in refused


def test_names_that_the_registry_does_not_take_are_refused(tmp_path: Path) -> None:
    from expflow.errors import UserError
    from expflow.tracking.registry import RegistryName, parse_registry_name

    assert parse_registry_name("digits@champion") == RegistryName("digits", "champion")
    assert parse_registry_name("my model.2") == RegistryName("my model.2")
    for wrong in ("", "a/b", "a:b", "'", "digits@", "digits@latest", "digits@v2", "digits@a b"):
        with pytest.raises(UserError, match="--register"):
            parse_registry_name(wrong)


def test_an_export_is_known_by_its_record(tmp_path: Path) -> None:
    from expflow.tracking.exported_models import ExportedModel, read_exports, write_export

    export = ExportedModel("t1", "c1", "depth=8 s0", "w1", "torch 2.15.0", "it branches")
    write_export(tmp_path, export)
    assert read_exports(tmp_path) == {"t1": export}
    record = tmp_path / "models" / "t1" / "export.json"
    for damaged in ("", "[]", json.dumps({"trial": "t1"}), json.dumps({**export.__dict__, "trial": "other"})):
        record.write_text(damaged)
        assert read_exports(tmp_path) == {}
