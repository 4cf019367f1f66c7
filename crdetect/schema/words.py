"""Texts about parameters: which values they accept, and what is wrong with given ones."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from crdetect.schema.block import Block
from crdetect.schema.kinds import Accepts, WholeNumber


class Described(NamedTuple):
    """A parameter as the template, the documentation, numina and the report present it.

    Attributes
    ----------
    name : str
        Name of the parameter.
    default : object
        Default value; None for a parameter that must be given.
    accepted : str
        The accepted values, in words.
    unit : str or None
        Unit of the value.
    description : str
        What the parameter does.
    """

    name: str
    default: Any
    accepted: str
    unit: str | None
    description: str


def describe_block(model: type[Block]) -> list[Described]:
    """Describe the parameters of a block, for the template, the documentation and numina."""
    return [
        Described(
            name,
            None if field.is_required() else field.get_default(call_default_factory=True),
            accepted_values(field),
            (field.json_schema_extra or {}).get("unit"),
            field.description or "",
        )
        for name, field in model.model_fields.items()
    ]


def accepted_values(field: FieldInfo) -> str:
    """Describe the values that a parameter accepts."""
    texts = [item.text for item in field.metadata if isinstance(item, Accepts | WholeNumber)]
    text = texts[-1] if texts else _annotation_text(field.annotation)
    optional = NoneType in get_args(field.annotation) and "or none" not in text
    return f"{text}, or none" if optional else text


def _annotation_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is Annotated:
        texts = [item.text for item in arguments[1:] if isinstance(item, Accepts | WholeNumber)]
        return texts[-1] if texts else _annotation_text(arguments[0])
    parts = [_annotation_text(item) for item in arguments if item is not NoneType]
    return ", or ".join(parts) if parts else getattr(annotation, "__name__", str(annotation))


def validate_block(model: type[Block], values: Mapping[str, Any]) -> tuple[Block | None, list[str]]:
    """Validate the values of one block of parameters.

    Parameters
    ----------
    model : type of Block
        The class of the block.
    values : mapping
        Values by the names of the parameters.

    Returns
    -------
    block : Block or None
        The block; None if a value is not accepted.
    faults : list of str
        What is wrong: unknown names, values that are missing, not accepted or contradictory.
    """
    faults = [
        unknown_parameter(name, model.model_fields)
        for name in values
        if name not in model.model_fields
    ]
    known = {name: value for name, value in values.items() if name in model.model_fields}
    try:
        block = model.model_validate(known)
    except ValidationError as error:
        return None, faults + list(_faults_by_name(error, model).values())
    return (None if faults else block), faults


def fault_of(model: type[Block], name: str, value: Any) -> str | None:
    """Say what is wrong with the value of one parameter by itself; None if it is accepted."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return _faults_by_name(error, model).get(name)
    return None


def unknown_parameter(name: Any, valid: Iterable[str]) -> str:
    """Say that a name is unknown, and suggest the most similar valid name."""
    near = difflib.get_close_matches(str(name), list(valid), n=1)
    return f"{name} is not a parameter" + (f"; did you mean {near[0]}?" if near else "")


def is_misspelt(name: Any, right: str) -> bool:
    """Return whether a name differs from the right one, but only a little."""
    return name != right and bool(difflib.get_close_matches(str(name), [right], cutoff=0.8))


def _faults_by_name(error: ValidationError, model: type[BaseModel]) -> dict[str, str]:
    """Describe each faulty parameter once.

    pydantic reports an error for each branch of a union; of those only the first counts. The key
    of a fault that concerns several parameters is its text.
    """
    faults: dict[str, str] = {}
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        field = model.model_fields.get(name)
        if field is None:
            faults[item["msg"]] = item["msg"].removeprefix("Value error, ")
        elif item["type"] == "missing" and len(item["loc"]) == 1:
            faults[name] = f"{name} is missing: it must be {accepted_values(field)}"
        elif name not in faults:
            given = _given(error, name)
            faults[name] = f"{name} must be {accepted_values(field)}, not {given}"
    return faults


def _given(error: ValidationError, name: str) -> str:
    # the error with the shortest location holds the whole value, as the user wrote it
    inputs = [
        (len(other["loc"]), other["input"])
        for other in error.errors()
        if other["loc"][:1] == (name,)
    ]
    value = min(inputs, key=lambda pair: pair[0])[1]
    return "none" if value is None else json.dumps(value, default=str)


def yaml_value(value: Any) -> str:
    """Write a value as one line of YAML."""
    plain = json.loads(json.dumps(value))
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6)
    return text.removesuffix("\n...\n").strip()
