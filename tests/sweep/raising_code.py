"""Modules of a user's that raise what is no Exception, or never come to an end."""

import builtins
import contextlib
import time

from tests.training.user_code import Plain


class Raising(Plain):
    """Raises in its first step."""

    def __init__(self, error: str):
        super().__init__()
        self.error = error

    def training_step(self, batch, batch_idx):
        raise getattr(builtins, self.error)("on purpose")


class Stuck(Plain):
    """Takes a step after which it waits for ever, and passes over every error."""

    def on_train_epoch_start(self):
        while self.current_epoch:
            with contextlib.suppress(Exception):
                time.sleep(600)
