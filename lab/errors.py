"""The one exception for a user's mistake."""


class UserError(ValueError):
    """A mistake of the user's: the message is one line that names the file, flag or value and says what would be right.

    `lab.launch` shows it without a traceback and ends the script with status 2.
    """
