"""Whom transfers tell how far they are."""


class Progress:
    """Tells nobody; who wants to hear inherits from it. None of these calls may raise."""

    def expect(self, *, files: int, size: int) -> None:
        """So many more files, of so many bytes, are to be moved."""

    def read(self, size: int) -> None:
        """Bytes of this machine that were read to be compared; told by any thread."""

    def moved(self, size: int) -> None:
        """Bytes that are where they should be, whether they travelled or were there."""

    def finished(self, path: str) -> None:
        """A file is done, well or not."""
