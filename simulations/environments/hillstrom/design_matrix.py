"""Design matrix of the model of Hillstrom's customers."""

import numpy as np

from bandits.array_types import AnyArray, FloatArray, IntArray

ARMS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
ZIP_CODES = ("Rural", "Surburban", "Urban")  # spelt as in the file
CHANNELS = ("Multichannel", "Phone", "Web")
LEVELS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995)
HISTORY_UNIT = 100.0  # dollars; the model uses the logarithm of history in this unit


def design(traits: IntArray, recency: AnyArray, history: FloatArray) -> FloatArray:
    """Lay out the columns of the logistic model: (n, 10).

    With the two shopping indicators and no customer who has neither, the three kinds of shopper
    each have their own level, so their observed rates come out of the fit exactly.

    Args:
        traits: (n, 5) int: mens, womens, newbie (0 or 1), positions in ZIP_CODES and CHANNELS.
        recency: (n,) months since the last purchase.
        history: (n,) dollars spent in the past year.
    """
    mens, womens, newbie, zip_code, channel = traits.T
    columns = [
        np.ones(len(traits)),
        recency,
        np.log(history / HISTORY_UNIT),
        mens,
        womens,
        newbie,
        zip_code == ZIP_CODES.index("Urban"),
        zip_code == ZIP_CODES.index("Rural"),
        channel == CHANNELS.index("Web"),
        channel == CHANNELS.index("Multichannel"),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def group(traits: IntArray) -> IntArray:
    """Number the eight kinds of customer whose recency and history differ most: (n,)."""
    mens, womens, newbie, _, channel = traits.T
    return 4 * (mens & womens) + 2 * (channel == CHANNELS.index("Multichannel")) + newbie


def third(recency: IntArray) -> IntArray:
    """Sort months 1–12 into four months each: (n,)."""
    return (recency - 1) // 4
