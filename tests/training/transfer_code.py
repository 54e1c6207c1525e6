"""Networks of a user's in named parts, with what freezing has to leave alone."""

from torch import nn


class Staged(nn.Sequential):
    """``stem``, ``body`` and ``head``, with batch norms and dropout."""

    def __init__(self, num_classes: int, width: int = 32, slope: float = 0.0):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.LeakyReLU(slope))
        self.body = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.3), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return super().forward(x.flatten(1))


class Plain(nn.Sequential):
    """Without anything that depends on the other samples of a batch."""

    def __init__(self, num_classes: int, width: int = 32, dropout: float = 0.0):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(64, width), nn.ReLU())
        self.body = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return super().forward(x.flatten(1))


class Softened(Plain):
    """It does something behind its head."""

    def forward(self, x):
        return super().forward(x).softmax(1)
