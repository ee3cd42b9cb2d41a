"""The one exception for what a user can cause and mend."""


class UserError(Exception):
    """A wrong key, file, digest or device: one line that names it and says what to do.

    Jobs print its text without a traceback and exit with status 1.
    """


class TemporaryError(UserError):
    """A server, a card or memory that is not there now: another attempt may find it."""
