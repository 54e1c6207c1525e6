"""A user's module whose ``validation_step`` returns ``scores`` that are none of a classification."""

import torch
from torch import nn

from tests.training.user_code import Plain


class OddResults(Plain):
    """``shape`` says what its scores are: one number a sample, a map of pixels, or a last batch that was squeezed."""

    def __init__(self, shape: str):
        super().__init__()
        self.shape = shape

    def validation_step(self, batch, batch_idx):
        image, label = batch["image"] / 255, batch["label"]
        scores = self.net(image)
        self.log("val/loss", nn.functional.cross_entropy(scores, label))
        if self.shape == "regression":
            return {"scores": scores[:, 0], "losses": torch.tensor(0.5)}
        if self.shape == "segmentation":
            return {"scores": scores[:, :, None, None].expand(-1, -1, 8, 8), "label": label}
        return {"scores": scores if len(label) == 8 else scores[0]}
