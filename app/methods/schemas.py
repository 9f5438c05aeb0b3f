"""How methods are shown."""

from typing import Any

from pydantic import BaseModel, Field

from pruning.planning.catalogue import MethodInfo


class MethodView(BaseModel):
    """A pruning method."""

    name: str
    title: str
    summary: str
    granularities: list[str] = Field(description="What it can remove as a whole.")
    measures: list[str] = Field(description="What its target_ratio can be a fraction of.")
    needs_training: bool = Field(description="Whether it trains while it prunes.")
    cuts_many: bool = Field(
        description="Whether it takes max_quality_drop, for which several cuts are tried."
    )
    settings_schema: dict[str, Any] = Field(description="JSON schema of its settings, with their defaults.")

    @classmethod
    def of(cls, method: MethodInfo) -> "MethodView":
        """The view of a method of the catalogue."""
        return cls(
            name=method.name,
            title=method.title,
            summary=method.summary,
            granularities=list(method.granularities),
            measures=list(method.measures),
            needs_training=method.needs_training,
            cuts_many=method.cuts_many,
            settings_schema=method.schema,
        )


class MethodList(BaseModel):
    """Every method."""

    data: list[MethodView]
    has_more: bool = False
    next_cursor: None = None
