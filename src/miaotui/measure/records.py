"""What one measurement leaves behind: raw values and the conditions they were taken under."""

from pydantic import BaseModel, ConfigDict

from miaotui.measure.statistics import percentile

Condition = str | int | float | bool | None


class Measurement(BaseModel):
    """Raw values with their unit and conditions (batch, lengths, threads, engine, environment).

    Statistics are derived, never stored. `model_dump_json` and `model_validate_json` round trip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    unit: str
    values: list[float]
    conditions: dict[str, Condition] = {}

    @property
    def median(self) -> float:
        """The middle value; a DataError where there is none."""
        return percentile(self.values, 50)

    def percentile(self, q: float) -> float:
        """The `q`-th percentile (0 to 100); a DataError where there are no values."""
        return percentile(self.values, q)
