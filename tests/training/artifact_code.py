"""A user's module and callback that write artifacts."""

import numpy as np
from pytorch_lightning.callbacks import Callback

from tests.training.user_code import Plain


class Pictured(Plain):
    """Writes a picture after each validation, and adds a callback that writes a text."""

    def configure_callbacks(self):
        return [Noting()]

    def on_validation_epoch_end(self):
        image = np.full((4, 6, 3), self.current_epoch, np.uint8)
        self.trainer.artifacts.write_image("filters", image, step=self.global_step)


class Noting(Callback):
    def on_train_end(self, trainer, pl_module):
        trainer.artifacts.write_text("note", f"{trainer.current_epoch} epochs", step=trainer.global_step)
