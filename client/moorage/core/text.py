"""Texts of others, as they may be shown."""


def printable(text: str) -> str:
    """With a mark in place of each character that would do something to a terminal instead of being shown on it."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
