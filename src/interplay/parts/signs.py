"""Random projections that are the same on every machine and with every version of a library."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def random_signs(rows: int, columns: int, seed: int) -> Float[Tensor, "rows columns"]:
    """±1/√columns at random: x·R keeps lengths and distances about as they are (Achlioptas, 2003).

    NumPy promises that the stream of `RandomState` never changes.
    """
    signs = np.random.RandomState(seed).randint(0, 2, size=(rows, columns))
    scaled: Tensor = torch.from_numpy(2.0 * signs - 1).float() / columns**0.5
    return scaled
