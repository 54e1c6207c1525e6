"""Colours and scales that pictures and charts share.

Colours are those of M. Okabe and K. Ito (Color Universal Design, 2008), which stay apart for colour-blind readers;
every line has a marker of its own as well.
"""

from __future__ import annotations

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A5C00")
FAILED = "#B00020"
SPAN_FOR_LOG = 30.0
"""A range of more than this factor hides its lower part on a linear axis."""
