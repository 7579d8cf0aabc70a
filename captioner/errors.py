"""The one exception for mistakes that a user can mend."""


class CaptionerError(Exception):
    """A user's mistake, told in one line: the thing, the value it had, and the cure.

    The command line prints it without a traceback. Everything else that is raised is a defect of this project.
    """
