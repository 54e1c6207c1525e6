"""How large the numbers of a network may be. A file that asks for more asks for no network that could be trained."""

from __future__ import annotations

MAX_LAYERS = 10_000
"""Layers or blocks, in all or of one stage; the deepest network that was published has 10,000 layers."""

MAX_STAGES = 30
"""Stages that a file may list."""

MAX_CHANNELS = 1_000_000
"""Channels, features or units of one layer, and whatever divides or multiplies them."""
