"""Text fields with a rule: names, durations, quantities, URLs. Each rule says in words what it expects.

A duration is written as in Go and Kubernetes, with days besides: `90s`, `15m`, `1h30m`, `30d` (a day is 24 hours),
units in this order, each at most once. A quantity is Kubernetes' own: `500m`, `2`, `8Gi`, `1.5G`.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from moorage_operator.spec.rules import Rule

_DURATION = re.compile(r"(?=.)(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?")
_QUANTITY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_SCALE: dict[str | None, Decimal] = {None: Decimal(1), "m": Decimal("0.001")}
_SCALE |= {unit: Decimal(1000**power) for power, unit in enumerate("kMGTP", 1)}
_SCALE |= {f"{unit}i": Decimal(1024**power) for power, unit in enumerate("KMGTP", 1)}


def wrong(expected: str) -> PydanticCustomError:
    """The error of a value that breaks its rule; the reader adds the path and the value."""
    return PydanticCustomError("expected", "expected {expected}", {"expected": expected})


def parse_duration(text: str) -> int:
    """Seconds of a duration. ValueError when it is none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_quantity(text: str) -> Decimal:
    """A quantity as a number (bytes, or cores). ValueError when it is none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return Decimal(match[1]) * _SCALE[match[2]]


@dataclass(frozen=True, slots=True)
class _Rule:
    """A string rule of both the models and the schema: `pattern` (anchored) and at most `longest` characters."""

    pattern: str
    expected: str
    longest: int = 253

    def check(self, value: str) -> str:
        if len(value) > self.longest or not re.fullmatch(self.pattern, value):
            raise wrong(self.expected)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def rules(self) -> tuple[Rule, ...]:
        """What the API server checks besides, in CEL."""
        return ()

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = {**handler(schema), "pattern": f"^{self.pattern}$", "maxLength": self.longest}
        if rules := self.rules():
            found["x-kubernetes-validations"] = [rule.as_validation() for rule in rules]
        return found


@dataclass(frozen=True, slots=True)
class Text(_Rule):
    """Text that matches `pattern` as a whole."""


@dataclass(frozen=True, slots=True)
class Between(_Rule):
    """A duration from `low` to `high`, both included."""

    pattern: str = r"([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?"
    expected: str = "a duration"
    longest: int = 28
    low: str = "0s"
    high: str = "36500d"

    def check(self, value: str) -> str:
        try:
            seconds = parse_duration(value)
        except ValueError:
            raise wrong("a duration such as 90s, 15m, 1h30m or 30d") from None
        if not parse_duration(self.low) <= seconds <= parse_duration(self.high):
            raise wrong(f"a duration from {self.low} to {self.high}")
        return value

    def rules(self) -> tuple[Rule, ...]:
        seconds = " + ".join(
            f"int('0' + self.find('[0-9]+{unit}').replace('{unit}', '')) * {scale}"
            for unit, scale in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
        )
        low, high = parse_duration(self.low), parse_duration(self.high)
        text = f"expected a duration from {self.low} to {self.high}, such as 90s, 15m, 1h30m or 30d"
        return (Rule(f"size(self) > 0 && {seconds} >= {low} && {seconds} <= {high}", text),)


@dataclass(frozen=True, slots=True)
class AtLeast(_Rule):
    """A quantity of at least `low`."""

    pattern: str = r"[0-9]{1,12}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?"
    expected: str = "a quantity"
    longest: int = 24
    low: str = "0"

    def check(self, value: str) -> str:
        try:
            amount = parse_quantity(value)
        except ValueError:
            raise wrong("a quantity such as 500m, 2 or 8Gi") from None
        if amount < parse_quantity(self.low):
            raise wrong(f"a quantity of at least {self.low}")
        return value

    def rules(self) -> tuple[Rule, ...]:
        if self.low == "0":
            return ()
        compared = f"quantity(self).compareTo(quantity('{self.low}')) >= 0"
        return (Rule(compared, f"expected a quantity of at least {self.low}"),)


_LABEL = r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?"
_HOST = r"([A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"(:[0-9]{1,5})?"

ResourceName = Annotated[
    str,
    # Services are named after it, and their names begin with a letter (RFC 1035).
    Text(
        r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
        "a lower-case letter, then lower-case letters, digits and inner dashes, at most 40 characters",
        40,
    ),
]
NamespaceName = Annotated[
    str,
    Text(
        r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        "lower-case letters, digits and inner dashes, at most 63 characters",
        63,
    ),
]
ObjectName = Annotated[
    str,
    Text(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "lower-case letters, digits and inner dashes and dots, at most 253 characters",
        253,
    ),
]
ServerKey = Annotated[
    str, Text(_LABEL, "lower-case letters, digits and inner dashes, at most 40 characters", 40)
]
PublicURL = Annotated[
    str,
    Text(
        rf"https?://{_HOST}{_PORT}",
        "a URL of scheme, host and optional port, such as https://files.example.com",
    ),
]
ServiceURL = Annotated[str, Text(rf"https?://{_HOST}{_PORT}", "a URL such as https://s3.example.com:9000")]
BucketName = Annotated[
    str,
    Text(
        r"[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]",
        "a bucket name: 3 to 63 lower-case letters, digits, dots, dashes",
        63,
    ),
]
KeyPrefix = Annotated[
    str, Text(r"[A-Za-z0-9_./-]{0,128}", "at most 128 letters, digits and the signs _ . / -", 128)
]
Image = Annotated[
    str,
    Text(
        r"[a-zA-Z0-9][a-zA-Z0-9._:/@+-]{0,511}",
        "an image reference such as registry.example.com/name:tag",
        512,
    ),
]


def _cron_field(value: str) -> str:
    """Values, ranges and steps of one field, in any number."""
    one = rf"(\*|{value}(-{value})?)(/[1-9][0-9]?)?"
    return rf"{one}(,{one})*"


_CRON = " ".join(
    map(
        _cron_field,
        (
            "[0-5]?[0-9]",
            "([01]?[0-9]|2[0-3])",
            "(0?[1-9]|[12][0-9]|3[01])",
            "(0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)",
            "([0-6]|SUN|MON|TUE|WED|THU|FRI|SAT)",
        ),
    )
)
Cron = Annotated[str, Text(_CRON, "a cron schedule of five fields, such as 17 3 * * *", 100)]
Quantity = Annotated[str, AtLeast()]
