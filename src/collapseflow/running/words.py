"""Values and epochs as names of folders and files, tables and figures print them; and what names
may not hold."""

import re
from typing import Any

#: Within a class of a regular expression: control characters, which end lines, and those that turn
#: the direction of the text after them. Right-to-left letters and their marks are text.
CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"


def as_word(value: Any) -> str:
    """A value in one word: 0, 0.0005, true, none, cosine; 0 and 0.0 are the same."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)


def epoch_name(epoch: int) -> str:
    """The name of an epoch's folder or file: epoch000 is the start."""
    return f"epoch{epoch:03d}"


def printable(text: str) -> str:
    """A text with its control characters, and bytes that are no text, written as in Python: names
    of files may hold what ends lines."""
    return re.sub(f"[\ud800-\udfff{CONTROL}]", lambda found: ascii(found[0])[1:-1], text)
