"""Trial A, trial B, trial A in one process: A comes to the same bits twice, and the process is as it was."""

import gc
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.modules import module
from torch.optim import optimizer

from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.training import Attempt, World, run_trial
from expflow.training.isolation import isolated
from tests.training import leaky_code, user_code

USER, LEAKY = user_code.__name__, leaky_code.__name__


def weights(task, seed=0, threads=1):
    recipe = Recipe(
        data=UserComponent(name=f"{USER}:Blobs"),
        task=UserComponent(name=task),
        trainer=Trainer(epochs=1, validate_every=1),
    )
    return run_trial(Attempt(recipe, seed), World(threads=threads), lambda report: True).weights


def state():
    """Everything of the process that a trial could find changed, by name."""
    backends = torch.backends
    return {
        "python's generator": random.getstate(),
        "numpy's generator": np.random.get_state()[1].tolist(),
        "torch's generator": torch.get_rng_state().tolist(),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "import path": (id(sys.path), *sys.path),
        "replaced modules": id(sys.modules.get("colorsys")),
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0] > 3000,
        "warnings": list(warnings.filters),
        "numpy's errors": np.geterr(),
        "logging": logging.root.manager.disable,
        "loggers": [
            (logger.level, logger.propagate, logger.disabled, list(logger.handlers))
            for logger in (logging.getLogger(), logging.getLogger("expflow"), logging.getLogger("pytorch_lightning"))
        ],
        "collector": (gc.isenabled(), gc.get_threshold()),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "recursion": sys.getrecursionlimit(),
        "threads": torch.get_num_threads(),
        "default type": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "modes of torch functions": torch.overrides._len_torch_function_stack(),
        "gradients": torch.is_grad_enabled(),
        "anomalies": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "determinism": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "denormals": (torch.full((1,), 1e-310, dtype=torch.float64, device="cpu") * 0.5).item() > 0,
        "autocast": [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")],
        "autocast's cache": (torch.is_autocast_cache_enabled(), _autocast_depth()),
        "precision": (
            backends.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.mkldnn.matmul.fp32_precision,
        ),
        "backends": (backends.cudnn.deterministic, backends.cudnn.benchmark, backends.mkldnn.enabled),
        "hooks": [
            dict(value) if isinstance(value, dict) else value
            for owner in (module, optimizer)
            for name, value in vars(owner).items()
            if name.startswith("_global_")
        ],
    }


def _autocast_depth():
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


@pytest.fixture
def _let_go():
    import colorsys  # noqa: F401  something to be replaced

    yield
    leaky_code.RELEASE.set()


@pytest.mark.usefixtures("_let_go")
def test_a_b_a_gives_a_twice_and_leaves_the_process_as_it_was(caplog):
    first = weights(f"{USER}:Plain")
    before = state()
    weights(f"{LEAKY}:Leaky", seed=3, threads=2)
    after = state()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}
    with pytest.raises(ZeroDivisionError):
        weights(f"{USER}:Broken")
    assert state() == after
    assert torch.get_float32_matmul_precision() == "highest"  # which raises where precisions are half put back
    assert "threads are left running beside what comes next: left-behind" in caplog.text
    assert weights(f"{USER}:Plain") == first
    assert any(
        thread.name == "left-behind" for thread in threading.enumerate()
    )  # as the warning says: it cannot be ended from outside


@pytest.mark.usefixtures("_let_go")
def test_the_bad_trial_is_bad(caplog):
    """Were one of its changes no longer one, nobody would see that it is not undone."""
    script = (
        "import colorsys, sys, torch\n"
        "from tests.training.leaky_code import RELEASE, Leaky\n"
        "from tests.training.test_isolation import state\n"
        "torch.use_deterministic_algorithms(True, warn_only=True)\n"
        "before, task = state(), Leaky()\n"
        "task.on_train_start(); task.on_train_end(); RELEASE.set()\n"
        "after = state(); sys.stdout = sys.__stdout__\n"
        "print(*[name for name in after if after[name] == before[name]], sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", sorted(leaky_code.HOOKS))
def test_every_kind_of_global_hook_is_taken_away(name):
    """They lie in torch's own tables: this notices where one moves, or another kind comes."""
    net = torch.nn.Linear(2, 2)

    def run():
        other = torch.nn.Sequential(net, torch.nn.BatchNorm1d(2))
        torch.optim.SGD(other.parameters(), lr=0.0).step()
        other(torch.ones(2, 2)).sum().backward()

    with isolated(threads=1, deterministic=True):
        handle = leaky_code.HOOKS[name]()
        table = handle.hooks_dict_ref()
        assert table is not None
        assert handle.id in table
    assert handle.id not in table
    run()


def test_all_hooks_that_torch_offers_are_tried():
    offered = {name for name in dir(module) if name.startswith("register_module_")}
    offered |= {name for name in dir(optimizer) if name.startswith("register_optimizer_step_")}
    source = Path(leaky_code.__file__).read_text()
    # the oldest of them is refused beside a full one
    assert {name for name in offered if name not in source} == {
        "register_module_backward_hook"
    }  # not beside a full one


def test_what_a_module_does_when_it_is_imported_is_no_part_of_the_first_trial():
    """It seeds torch's generator; the first trial must not begin with those weights, and a second with its own."""
    script = (
        "from tests.training.test_isolation import LEAKY, weights\n"
        "import sys; sys.modules.pop(LEAKY)\n"
        "print(*(weights(f'{LEAKY}:Early', seed=seed) for seed in (0, 1, 0)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, other, again = done.stdout.split()
    assert first == again != other


def test_the_newer_interface_of_precisions_may_have_been_used():
    """After that torch refuses to say what the older one stands at, for good: so in a process of its own."""
    script = (
        "import torch\n"
        "from tests.training.test_isolation import USER, weights\n"
        "torch.backends.fp32_precision = 'tf32'\n"
        "first = weights(f'{USER}:Plain')\n"
        "assert torch.backends.fp32_precision == torch.backends.mkldnn.matmul.fp32_precision == 'tf32'\n"
        "torch.backends.fp32_precision = 'none'\n"
        "assert weights(f'{USER}:Plain') == first"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture
def store(tmp_path):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/theirs.db")
    mlflow.set_experiment("theirs")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


def test_runs_that_a_trial_leaves_open_are_ended_and_those_around_it_are_not(store):
    import mlflow

    with mlflow.start_run() as around:
        weights(f"{LEAKY}:OpensRuns")
        with pytest.raises(ZeroDivisionError):
            weights(f"{LEAKY}:OpensAndFails")
        assert mlflow.active_run().info.run_id == around.info.run_id
    runs = [(run.info.run_name, run.info.status) for run in store.search_runs([around.info.experiment_id])]
    theirs = {(name, status) for name in ("outer", "inner") for status in ("FINISHED", "FAILED")}
    assert sorted(runs) == sorted({*theirs, (around.info.run_name, "FINISHED")})
