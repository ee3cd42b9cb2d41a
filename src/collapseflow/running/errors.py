"""The one exception for what a user can cause and mend, and the words for a wrong name."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A wrong key, file, digest or device: one line that names it and says what to do.

    Jobs print its text without a traceback and exit with status 1.
    """


class TemporaryError(UserError):
    """A server, a card or memory that is not there now: another attempt may find it."""


def did_you_mean(name: object, known: Iterable[str], n: int = 1) -> str:
    """``did you mean 'b'? `` for a name that resembles known ones, the nearest ``n`` of them;
    nothing for any other."""
    folded = {word.casefold(): word for word in known}
    close = get_close_matches(str(name).casefold(), folded, n=n)
    return f"did you mean {' or '.join(repr(folded[word]) for word in close)}? " if close else ""


def instead(name: object, known: Iterable[str]) -> str:
    """What to write instead of a name: the one that resembles it, and all that are allowed."""
    known = list(known)
    return f"{did_you_mean(name, known)}allowed: {', '.join(known)}"
