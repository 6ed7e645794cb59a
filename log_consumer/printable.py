"""Text from elsewhere, for a line of ours."""


def printable(text: str) -> str:
    """The text with what could move a cursor or end the line shown as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
