"""The exceptions that end a script without a traceback."""

import errno

_DISK = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)


class UserError(Exception):
    """A mistake of the user, as one sentence that names the mistake and says what to do.

    Scripts print the sentence without a traceback and exit with a non-zero status. Any other exception is a bug in
    this project and keeps its traceback.
    """


class Interrupted(Exception):
    """A signal stopped the work; the work done so far is saved."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


def about_disk(error: OSError) -> str | None:
    """The error sentence for a disk that is full, read-only or not accessible; None for any other error."""
    if error.errno not in _DISK:
        return None
    remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it accessible"
    return f"{error.filename or 'disk'}: {error.strerror}; {remedy}, then run the command again."
