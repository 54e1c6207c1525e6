"""Arguments of networks with a head for each field. Torch-free: the network is in
``expflow.architectures.multi_head``.
"""

from __future__ import annotations

from typing import ClassVar

from expflow.architectures.specs.backbone import WithBackboneSpec
from expflow.config.component_specs import ModelOutput


class MultiHeadSpec(WithBackboneSpec):
    """A classification network of ours with a linear head for each field of the data that is to be learned.

    Every other key is one of the backbone's.
    """

    build: ClassVar[str] = "expflow.architectures.multi_head:build"
    gives: ClassVar[ModelOutput] = "several"
