"""Valid arguments for any operation, made from its signature and the SDK's models: only what is required."""

import datetime
import inspect
import types
import typing
from collections.abc import Iterable, Mapping

from flexprice.types import BaseModel
from pydantic.fields import FieldInfo

NOT_THE_OPERATIONS = {"self", "retries", "server_url", "timeout_ms", "http_headers"}


def minimal(bound):
    parameters = inspect.signature(bound).parameters.values()
    return {
        each.name: value_of(each.annotation)
        for each in parameters
        if each.default is inspect.Parameter.empty and each.name not in NOT_THE_OPERATIONS
    }


def value_of(annotation):
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    if isinstance(annotation, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        annotation = annotation.__value__
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return value_of(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return value_of(arguments[0])
    if origin in (list, Iterable):
        return [value_of(arguments[0])]
    if origin in (dict, Mapping):
        return {"key": value_of(arguments[1])}
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return annotation(**{name: value_of(field) for name, field in fields if field.is_required()})
    if annotation is datetime.datetime:
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    values = {str: "x", int: 1, float: 1.0, bool: True}
    if annotation in values:
        return values[annotation]
    if annotation is typing.Any:
        return {}
    raise TypeError(f"no value is known of {annotation!r}")
