"""The one exception for mistakes that a user can mend, and what other exceptions say."""


class CaptionerError(Exception):
    """A user's mistake, told in one line: the thing, the value it had, and the cure.

    The command line prints it without a traceback. Everything else that is raised is a defect of this project.
    """


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
