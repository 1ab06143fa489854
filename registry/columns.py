"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Enum, Integer, String
from sqlalchemy.types import TypeDecorator

SchemaT = TypeVar("SchemaT", bound=BaseModel)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC goes in and comes out, to the microsecond; naive ones are refused.

    SQLite keeps text of fixed width, so that its order is the order of time.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware moment into what the driver keeps."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone; pass an aware datetime")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn what the driver kept into an aware moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Stored(TypeDecorator[SchemaT]):
    """A schema's object, kept as JSON and validated when read; ``context`` may loosen that."""

    # json and not jsonb: jsonb refuses "\u0000", which a request's metadata may hold.
    impl = JSON
    cache_ok = True

    def __init__(self, model: type[SchemaT], *, context: str | None = None) -> None:
        super().__init__(none_as_null=True)
        self.model = model
        self.context = context

    def process_bind_param(self, value: SchemaT | None, dialect: Dialect) -> Any:
        """Turn the object into plain JSON values."""
        return None if value is None else value.model_dump(mode="json")

    def process_result_value(self, value: Any, dialect: Dialect) -> SchemaT | None:
        """Turn plain JSON values into the object."""
        if value is None:
            return None
        context = None if self.context is None else {self.context: True}
        return self.model.model_validate(value, context=context)


def word(enum: type[StrEnum]) -> Enum:
    """One of an enumeration's values, as text of at most 32 characters.

    Text and not a native type: a new value then needs no change of type in the database.
    """
    return Enum(
        enum,
        native_enum=False,
        length=32,
        values_callable=lambda cls: [member.value for member in cls],
    )


#: A growing number. SQLite counts only columns of its own INTEGER type.
Serial = BigInteger().with_variant(Integer(), "sqlite")
Identifier = String(64)
Label = String(255)
Sha256 = String(64)
