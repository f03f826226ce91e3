"""The exceptions that end a script without a traceback."""


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
