"""A module of a user's that starts a daemon, as servers of metrics and profilers do."""

from pathlib import Path

from tests.training.user_code import Plain


class Forking(Plain):
    """Writes the daemon's process id down."""

    def __init__(self, note: str):
        super().__init__()
        self.note = note

    def on_train_start(self):
        from tests.training.test_child_processes import daemon

        Path(self.note).write_text(str(daemon()))
