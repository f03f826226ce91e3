"""The exceptions that end a script without a traceback."""

import errno

_DISK = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)


class UserError(Exception):
    """What the user got wrong, as one sentence that names it and says what to do.

    Scripts print it without a traceback and exit with a status other than 0. Everything else that is
    raised is a defect of this project and keeps its traceback.
    """


class Interrupted(Exception):
    """A signal stopped the work; what was done is saved."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


def about_disk(error: OSError) -> str | None:
    """The sentence for a disk that is full or closed to us; None if it is something else."""
    if error.errno not in _DISK:
        return None
    return f"{error.filename or 'disk'}: {error.strerror}; make room or give access, then run it again."
