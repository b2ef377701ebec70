"""What is wrong with manifests: all of it at once, each with file, line, document, field and what was expected."""

from dataclasses import dataclass

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """`document` is `kind/name` or `document N`; `path` leads to the field, empty for the document as a whole."""

    file: str
    line: int
    document: str
    path: FieldPath
    message: str

    def __str__(self) -> str:
        parts = [f"{self.file}:{self.line}", self.document, render_path(self.path), self.message]
        return ": ".join(part for part in parts if part)


class ManifestError(Exception):
    """The manifests cannot be used; `problems` holds every reason, in the order of the files."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def render_path(path: FieldPath) -> str:
    """`("spec", "blockPools", 0, "name")` → `spec.blockPools[0].name`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
