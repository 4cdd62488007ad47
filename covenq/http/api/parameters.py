"""The parameters of an operation out of a request's body, checked by the types of its Struct, in sentences for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import falcon
from msgspec import Struct, inspect

from covenq.errors import UsageError
from covenq.http.api.params import Body, body_of
from covenq.operate.operations import A, Operation, P

_NOUNS: dict[type[inspect.Type], str] = {
    inspect.StrType: "a text",
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
}


@dataclass(frozen=True, slots=True)
class _Field:
    """A key of a body. `parse`, if there is one, makes each of a list's items, and says what is wrong with it."""

    name: str
    type: inspect.Type
    noun: str
    required: bool
    parse: Callable[[object], object] | None


def parameters_of(req: falcon.Request, operation: Operation[P, A]) -> P:
    """Null is the same as not there. What a value must be beyond its type is the operation's to say. Raises UsageError."""
    fields = _fields(operation.parameters)
    body = body_of(req, [field.name for field in fields], operation.body_max)
    given = [(field.name, _value(body, field)) for field in fields]
    values: dict[str, Any] = {name: value for name, value in given if value is not None}  # of the fields' own types
    return operation.parameters(**values)


def _value(body: Body, field: _Field) -> object | None:
    value: object = body.get(field.name)
    if value is None:
        # A text that has to be there is refused as an empty one is: the operation says what it may be.
        if field.required and not isinstance(field.type, inspect.StrType):
            raise UsageError(f"{field.name} must be {field.noun}")
        return "" if field.required else None
    if isinstance(value, float) and not _fits(value, field.type) and _fits(0, field.type):
        if abs(value) >= 1 << 63:
            raise UsageError(f"{field.name} is too large")  # a whole number of over 64 bits is read as a float
        if value.is_integer():
            value = int(value)  # 7.0 is a whole number in JSON
    if not _fits(value, field.type):
        raise UsageError(f"{field.name} must be {field.noun}")
    if field.parse is not None and isinstance(value, list):
        return [field.parse(one) for one in value]
    return value


def _fits(value: object, kind: inspect.Type) -> bool:
    """Whether the value is of that type; an object in a list is for its parser to check."""
    match kind:
        case inspect.UnionType(types=types):
            return any(_fits(value, one) for one in types)
        case inspect.ListType(item_type=item):
            return isinstance(value, list) and all(_fits(one, item) for one in value)
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.StructType():
            return True
        case _:
            return False


@cache
def _fields(parameters: type[Struct]) -> tuple[_Field, ...]:
    described = inspect.type_info(parameters)
    assert isinstance(described, inspect.StructType)
    return tuple(_field(one) for one in described.fields)


def _field(one: inspect.Field) -> _Field:
    kind, extra = (one.type.type, one.type.extra or {}) if isinstance(one.type, inspect.Metadata) else (one.type, {})
    named = (
        next((each for each in kind.types if type(each) in _NOUNS), kind)
        if isinstance(kind, inspect.UnionType)
        else kind
    )
    noun = extra.get("noun") or _NOUNS[type(named)]
    return _Field(one.encode_name, kind, noun, one.required, extra.get("parse"))
