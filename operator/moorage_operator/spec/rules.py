"""Rules that only a whole object can tell, said twice from one place: to pydantic, and to the API server in CEL.

A model lists its CEL in `rules`; the generated schema carries them as `x-kubernetes-validations`. Transition rules
(`oldSelf`) stand on the parent of what they guard and test presence too: a rule on a field that is dropped is not run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    """`message` is what a person reads when the API server refuses an object."""

    rule: str
    message: str

    def as_validation(self) -> dict[str, Any]:
        return {"rule": self.rule, "message": self.message}


def field_error(field: str, message: str) -> PydanticCustomError:
    """An error of one field that only the whole model can see; `field` in Python's spelling."""
    return PydanticCustomError("field", "{message}", {"field": field, "message": message})


@dataclass(frozen=True, slots=True)
class OneOf:
    """A union: `type` names the one member that is set (`members`: type → field, spelled alike in Python and YAML).

    `optional` members may be left out where their type is chosen.
    """

    members: Mapping[str, str]
    optional: tuple[str, ...] = ()

    def check(self, model: Any) -> None:
        """PydanticCustomError with the field's name."""
        chosen = self.members.get(model.type)
        for kind, field in self.members.items():
            present = getattr(model, field) is not None
            if field == chosen and not present and field not in self.optional:
                raise field_error(field, f"required when type is {kind}")
            if field != chosen and present:
                raise field_error(field, f"only allowed when type is {kind}")

    def build_rules(self) -> tuple[Rule, ...]:
        rules = []
        for kind, field in self.members.items():
            if field not in self.optional:
                text = f"{field} is required when type is {kind}"
                rules.append(Rule(f"self.type != '{kind}' || has(self.{field})", text))
            text = f"{field} is only allowed when type is {kind}"
            rules.append(Rule(f"self.type == '{kind}' || !has(self.{field})", text))
        return tuple(rules)


def immutable(*fields: str) -> tuple[Rule, ...]:
    """For fields that are always present: required ones, and those with a default."""
    return tuple(Rule(f"self.{field} == oldSelf.{field}", f"{field} is immutable") for field in fields)


@dataclass(frozen=True, slots=True)
class Unique:
    """A list of objects that `key` tells apart, or of texts when there is none: each once."""

    key: str | None = None

    def check(self, values: Any) -> Any:
        marks = [getattr(value, self.key) if self.key else value for value in values]
        twice = next((mark for place, mark in enumerate(marks) if mark in marks[:place]), None)
        if twice is not None:
            raise PydanticCustomError("twice", "{message}", {"message": f"holds {twice!r} twice"})
        return values

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kind = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}
        return {**handler(schema), **(kind if self.key else {"x-kubernetes-list-type": "set"})}
