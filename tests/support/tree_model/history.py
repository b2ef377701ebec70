"""What happened, and whether some serial order of the requests explains it.

The journal is the serial order of the requests that changed something. Replaying it on the model must give each
request's answer and journal entries; a request that changed nothing must be answered by the model as it really was
at some point of that order between the request's start and its end; and the order must respect real time.
"""

from dataclasses import dataclass

from tree_model.model import Entry, Model
from tree_model.operations import Answer, Operation


@dataclass
class Request:
    """One attempt. `start` and `end` are ticks of one counter; `answer` None: the outcome stayed unknown."""

    tag: str
    operation: Operation
    start: int
    end: int = 0
    answer: Answer | None = None


class UnexplainedError(AssertionError):
    pass


@dataclass
class Change:
    """The entries that one transaction's request put into the journal; `tag` names the request."""

    tag: str
    entries: list[Entry]


def check_serializable(root: str, requests: list[Request], changes: list[Change]) -> Model:
    """The model after all changes; UnexplainedError (with the request) when no serial order explains them."""
    by_tag = {request.tag: request for request in requests}
    places = {change.tag: place for place, change in enumerate(changes)}
    if len(places) != len(changes):
        raise UnexplainedError("a request changed the namespace twice, or not in one piece")
    model, states = Model(root), []
    kept: dict[str, Answer] = {}  # what stands under an idempotency key
    for change in changes:
        states.append(model.copy())
        request, count = by_tag[change.tag], len(model.journal)
        answer = model.apply(request.operation)
        if request.answer not in {None, answer}:
            raise UnexplainedError(f"{request} changed the tree; in its place the model answers {answer}")
        if model.journal[count:] != change.entries:
            raise UnexplainedError(f"{request} wrote {change.entries}, the model {model.journal[count:]}")
        key = request.operation.key
        if key is not None:
            if key in kept:
                raise UnexplainedError(f"{request} was carried out twice under one key")
            kept[key] = answer
    states.append(model.copy())
    _check_real_time(requests, places)
    _check_repeats(requests)
    for request in requests:
        if request.tag not in places and request.answer is not None:
            _check_explained(request, requests, places, states, kept)
    return model


def _check_repeats(requests: list[Request]) -> None:
    """What was done under one key is answered in one way."""
    done: dict[str, Answer] = {}
    for request in requests:
        key, answer = request.operation.key, request.answer
        if key is not None and answer is not None and answer[0] == "ok":
            first = done.setdefault(key, answer)
            if answer != first:
                raise UnexplainedError(f"{request} was answered {first} before, under the same key")


def _check_real_time(requests: list[Request], places: dict[str, int]) -> None:
    """Whoever ended before another began stands before it."""
    changing = sorted((r for r in requests if r.tag in places), key=lambda r: places[r.tag])
    earliest_end = float("inf")
    for request in reversed(changing):
        if request.start > earliest_end:
            raise UnexplainedError(f"{request} stands before one that had ended when it began")
        earliest_end = min(earliest_end, request.end)


def _check_explained(
    request: Request,
    requests: list[Request],
    places: dict[str, int],
    states: list[Model],
    kept: dict[str, Answer],
) -> None:
    key = request.operation.key
    if key is not None and kept.get(key) == request.answer:
        return
    # What was kept under a key may be from an earlier attempt whose answer was lost.
    start = min(r.start for r in requests if r is request or (key is not None and r.operation.key == key))
    low = max((places[r.tag] + 1 for r in requests if r.tag in places and r.end < start), default=0)
    high = min(
        (places[r.tag] for r in requests if r.tag in places and r.start > request.end),
        default=len(states) - 1,
    )
    answers = []
    for state in states[low : high + 1]:
        trial = state.copy()
        answers.append((trial.apply(request.operation), trial.journal[len(state.journal) :]))
        if answers[-1] == (request.answer, []):
            return
    raise UnexplainedError(
        f"{request} changed nothing; from place {low} to {high} the model answers {answers}"
    )
