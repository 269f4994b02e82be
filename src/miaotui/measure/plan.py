"""What `optimize` would try: the single JSON document of `miaotui optimize --dry-run --json`."""

from dataclasses import dataclass

from miaotui.tasks.rows_read import RowsRead


@dataclass(frozen=True)
class PlannedStage:
    """`tries` are recipes by their titles, or what follows from earlier trials, in words. The stage
    ends `until_s` seconds after the command's start at the latest; `skipped` says why it is none.
    """

    name: str
    until_s: float
    tries: tuple[str, ...]
    skipped: str | None = None


@dataclass(frozen=True)
class PlannedTime:
    """Seconds, at the speed that the original was found to have on a few rows, `rows_per_s`. A
    trial is without building it; acceptance test and rivals are what they take where nothing is
    faster than the original. `measuring_s` is what these leave for the proof."""

    rows_per_s: float
    budget_s: float
    loading_s: float
    original_s: float
    search_s: float
    trial_s: float
    acceptance_s: float
    rivals_s: float
    measuring_s: float
    full_proof: bool


@dataclass(frozen=True)
class Plan:
    """`splits` are rows that would be used, of all those there are in `rows`. `engines` and
    `rivals` that would not be tried say why, the others None."""

    model: str
    family: str
    metric: str
    read: tuple[RowsRead, ...]
    rows: dict[str, int]
    splits: dict[str, int]
    machine: str
    engines: dict[str, str | None]
    stages: tuple[PlannedStage, ...]
    rivals: dict[str, str | None]
    time: PlannedTime
    notes: tuple[str, ...]
