"""Small filters in a stack, or one large filter that sees as much: a network with nothing else in it."""

from torch import nn


class Filters(nn.Sequential):
    """Convolutions of ``width`` channels that see ``field`` x ``field`` pixels, each with a ReLU.

    ``small``: (field - 1) / 2 convolutions of 3x3, with 9 * width^2 weights each; else a single one, with
    field^2 * width^2. They lie between a 1x1 convolution that makes the channels and a linear classifier on the average
    of the map, so that nothing else sees more than one pixel.
    """

    def __init__(self, in_channels: int, num_classes: int, field: int = 5, small: bool = True, width: int = 32) -> None:
        if field < 3 or field % 2 == 0:
            raise ValueError(f"a field of {field} pixels; 3x3 convolutions see 3, 5, 7 and so on")
        kernels = [3] * ((field - 1) // 2) if small else [field]
        parts = [nn.Conv2d(in_channels, width, 1), nn.ReLU()]
        for kernel in kernels:
            parts += [nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False), nn.ReLU()]
        super().__init__(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
        for each in parts:
            # torch's own draw shrinks what passes a ReLU, the more the deeper the stack.
            if isinstance(each, nn.Conv2d):
                nn.init.kaiming_normal_(each.weight, nonlinearity="relu")
