"""The exception for errors that the user can fix."""


class CaptionerError(Exception):
    """Raised for errors that the user can fix; the message is one line: the thing, its value, and the cure.

    The command line prints it without a traceback. Any other exception is a bug in this project.

    Args:
        message: The message.
        parameter: Name of the parameter that the cure, at the end of the message, sets; the command line names its own
            option instead.
    """

    def __init__(self, message: str = "", parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


def first_line(error: Exception) -> str:
    """First line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
