"""What senders have at hand, written as the JSON that the server takes."""

from typing import Any

import msgspec
import numpy as np

from bandits.errors import InvalidInput


def encode_json(body: Any) -> bytes:
    """Write a body; a scalar of NumPy, as tables of recipients hold them, as the number it is.

    Raises:
        InvalidInput: there is something in it that JSON has no form for.
    """
    try:
        return msgspec.json.encode(body, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput.at("", f"cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no number, text, true, false or None")
