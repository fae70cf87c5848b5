"""Errors meant for people: one sentence that says what is wrong and what to do."""


class UserError(Exception):
    """Bad input. The message is one sentence naming the file or parameter and the remedy; shown without traceback."""
