"""Text states that come out, and those that go in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._images import imported
from ._options import unusable

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Embeddings(NamedTuple):
    """A text as a model's text encoder leaves it; of aMUSEd diffusers' encoder_hidden_states and prompt_embeds."""

    #: float32 [rows, channels]
    states: NDArray[np.float32]
    #: float32 [channels], none of a Muse model
    pooled: NDArray[np.float32]


def native(given: Any) -> tuple[list[float], int, list[float]] | None:
    """What the engine takes: of Embeddings, or two arrays of NumPy's or of what exports them by DLPack."""
    if given is None:
        return None
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise unusable("embeddings", given, "states [rows, channels] and pooled states [channels]")
    states, pooled = (imported(part) for part in given)
    if states.ndim != 2 or pooled.ndim != 1 or states.dtype.kind != "f" or pooled.dtype.kind != "f":
        found = f"arrays of {states.dtype} {list(states.shape)} and {pooled.dtype} {list(pooled.shape)}"
        raise unusable("embeddings", found, "floats [rows, channels] and [channels]")
    return states.ravel().tolist(), states.shape[0], pooled.tolist()


def of(embedded: tuple[bytearray, int, bytearray]) -> Embeddings:
    """The arrays of what the engine gives: the same memory."""
    states, rows, pooled = embedded
    return Embeddings(np.frombuffer(states, np.float32).reshape(rows, -1), np.frombuffer(pooled, np.float32))
