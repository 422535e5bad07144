"""The base of the config's sections about quality."""

from pydantic import BaseModel, ConfigDict


class QualitySection(BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
