"""Blocks of parameters: the parameters of a detector, of a criterion, or the general ones."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator


def is_none(value: Any) -> bool:
    """Return whether a value means *none*: None, an empty text, ``none`` or ``null``."""
    return value is None or (
        isinstance(value, str) and value.strip().lower() in ("", "none", "null")
    )


def parameter(default: Any, description: str, unit: str | None = None) -> Any:
    """Declare a parameter of a block.

    Parameters
    ----------
    default : object
        Default value; ``...`` for a parameter that must be given.
    description : str
        What the parameter does, for the template, the documentation, numina and the report.
    unit : str, optional
        Unit of the value.
    """
    return Field(default, description=description, json_schema_extra={"unit": unit})


class Block(BaseModel):
    """A block of parameters, which cannot be changed and accepts no unknown names.

    It is not an observing block of numina, which names frames and a reduction mode.

    Attributes
    ----------
    prefix : str
        Beginning of the parameters' names, without the underscore that follows; empty for names
        without a prefix.
    title : str
        Name of the block in the template, the documentation and the report.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    prefix: ClassVar[str] = ""
    title: ClassVar[str] = ""

    @field_validator("*", mode="before")
    @classmethod
    def _none_in_words(cls, value: Any) -> Any:
        return None if is_none(value) else value
