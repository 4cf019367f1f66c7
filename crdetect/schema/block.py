"""A block of parameters: those of one detector, of one criterion, or the general ones."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator


def is_none(value: Any) -> bool:
    """Tell if a value means *none*: None, an empty text, ``none`` or ``null``."""
    return value is None or (
        isinstance(value, str) and value.strip().lower() in ("", "none", "null")
    )


def parameter(default: Any, description: str, unit: str | None = None) -> Any:
    """Declare a parameter of a block.

    Parameters
    ----------
    default : object
        Its default; ``...`` where the parameter must be given.
    description : str
        What it does, for the template, the documentation, numina and the report.
    unit : str, optional
        Unit of its value.
    """
    return Field(default, description=description, json_schema_extra={"unit": unit})


class Block(BaseModel):
    """A block of parameters: frozen, and closed to unknown names.

    Attributes
    ----------
    prefix : str
        What the names of its parameters begin with, before an underscore; empty for names
        without a prefix.
    title : str
        What people call it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    prefix: ClassVar[str] = ""
    title: ClassVar[str] = ""

    @field_validator("*", mode="before")
    @classmethod
    def _none_in_words(cls, value: Any) -> Any:
        return None if is_none(value) else value
