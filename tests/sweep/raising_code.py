"""A module of a user's that raises what is no Exception."""

import builtins

from tests.training.user_code import Plain


class Raising(Plain):
    """Raises in its first step."""

    def __init__(self, error: str):
        super().__init__()
        self.error = error

    def training_step(self, batch, batch_idx):
        raise getattr(builtins, self.error)("on purpose")
