"""A module of a user's that reads where a launcher has put it, at import and in training."""

import os

from pytorch_lightning.utilities import rank_zero_only

from tests.training.user_code import Plain

PREFIXES = ("SLURM_", "PMI", "OMPI_", "LSB_", "JSM_", "TORCHELASTIC_", "MASTER_", "RANK", "LOCAL_RANK", "WORLD_SIZE")


def launcher_variables():
    return [name for name in os.environ if name.startswith(PREFIXES)]


AT_IMPORT = launcher_variables()


class Launched(Plain):
    """Reports what it sees."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        run = []
        rank_zero_only(run.append)(1)
        self.log("val/variables", float(len(AT_IMPORT) + len(launcher_variables())))
        self.log("val/global_rank", float(self.global_rank))
        self.log("val/global_zero_functions_run", float(len(run)))
