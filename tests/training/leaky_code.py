"""A module that behaves as badly as a user's can: it changes what it reaches, and puts nothing back."""

import gc
import io
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import types
import warnings

import numpy as np
import torch
from torch.nn.modules import module
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tests.training.user_code import Plain

torch.manual_seed(42)  # as many scripts do; it must not be what the first trial alone begins with

RELEASE = threading.Event()
"""Lets the thread go that a trial leaves."""

HOOKS = {
    "forward": lambda: module.register_module_forward_hook(lambda net, args, output: output * 2),
    "forward_with_kwargs": lambda: module.register_module_forward_hook(
        lambda net, args, kwargs, output: output + 1, with_kwargs=True, always_call=True
    ),
    "forward_pre": lambda: module.register_module_forward_pre_hook(lambda net, args: None),
    "full_backward": lambda: module.register_module_full_backward_hook(lambda net, given, taken: None),
    "full_backward_pre": lambda: module.register_module_full_backward_pre_hook(lambda net, taken: None),
    "buffer": lambda: module.register_module_buffer_registration_hook(lambda net, name, value: None),
    "module": lambda: module.register_module_module_registration_hook(lambda net, name, value: None),
    "parameter": lambda: module.register_module_parameter_registration_hook(lambda net, name, value: None),
    "optimizer_pre": lambda: register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: None),
    "optimizer_post": lambda: register_optimizer_step_post_hook(lambda optimizer, args, kwargs: None),
}


class Early(Plain):
    """Changes what a training can bear to go on with."""

    def on_train_start(self):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        os.environ["LEAKED"] = "yes"
        os.environ.pop("PATH", None)
        os.chdir("/")
        sys.path = ["/nowhere"]
        sys.modules["colorsys"] = types.ModuleType("colorsys")


class Leaky(Early):
    """Changes everything else once it has trained."""

    def on_train_end(self):
        for register in HOOKS.values():
            register()
        self._python()
        self._torch()
        threading.Thread(target=RELEASE.wait, name="left-behind").start()

    def _python(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 3600)
        warnings.simplefilter("ignore")
        np.seterr(all="raise")
        logging.disable(logging.CRITICAL)
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger().addHandler(logging.StreamHandler())
        logging.getLogger("expflow").setLevel(logging.CRITICAL)
        logging.getLogger("expflow").propagate = False
        gc.disable()
        multiprocessing.set_start_method("spawn", force=True)
        sys.stdout = io.StringIO()
        sys.excepthook = print
        sys.setrecursionlimit(2000)

    def _torch(self):
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.autograd.set_detect_anomaly(True, check_nan=False)
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True
        torch.set_flush_denormal(True)
        torch.autocast("cpu", torch.bfloat16, cache_enabled=False).__enter__()
        torch.backends.fp32_precision = "tf32"
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = True
        torch.backends.mkldnn.enabled = False


class OpensRuns(Plain):
    """Logs to MLflow by itself, and leaves its runs open."""

    def on_train_start(self):
        import mlflow

        mlflow.start_run(run_name="outer", nested=True)
        mlflow.start_run(run_name="inner", nested=True)


class OpensAndFails(OpensRuns):
    """Raises with its runs open."""

    def training_step(self, batch, batch_idx):
        raise ZeroDivisionError
