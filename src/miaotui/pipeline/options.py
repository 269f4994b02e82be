"""What a user asks of `optimize`, before anything is loaded."""

from dataclasses import dataclass, field
from pathlib import Path

from miaotui.budget import Budget
from miaotui.data.rows import Columns
from miaotui.errors import BudgetError
from miaotui.models.model import Model

SMALLEST_FOR_SURGERY = 300
"""With fewer test rows no loss of a point could be seen: nothing is removed."""


@dataclass(frozen=True)
class RowsOptions:
    """Where the rows are. Without `selection` and `test` they are split off `data`."""

    data: Path
    selection: Path | None = None
    test: Path | None = None
    unlabelled: Path | None = None
    columns: Columns = field(default_factory=Columns)
    seed: int = 0


@dataclass(frozen=True)
class OptimizeOptions:
    """One optimization. `cores` of None means all that this process may use.

    The time budget counts from `began`, a value of `time.monotonic` (a command's start, its imports
    included); None means from the call.
    """

    model: str
    rows: RowsOptions
    out: Path
    budget: Budget = field(default_factory=Budget)
    task: str | None = None
    metric: str | None = None
    by_agreement: bool = False
    """Whether the original's own answers stand in for labels."""
    engines: tuple[str, ...] | None = None
    cores: int | None = None
    keep_shapes: bool = False
    recipe: Path | None = None
    revision: str | None = None
    fresh: bool = False
    golden: bool = True
    command: str = ""
    began: float | None = None

    def __post_init__(self) -> None:
        if self.by_agreement and self.metric is not None:
            raise BudgetError("--max-change judges by agreement alone; leave --metric out")
        if self.by_agreement and self.rows.columns.label is not None:
            raise BudgetError("--max-change looks at no label; leave --label-column out")

    @property
    def work(self) -> Path:
        """Where trials are kept until the bundle is written, so that an interrupted run goes on."""
        return self.out.absolute().parent / f".{self.out.name}.work"

    def why_whole(self, model: Model, test_rows: int) -> str | None:
        """Why nothing of the model is removed; None where it may be."""
        if self.keep_shapes:
            return "--keep-shapes"
        if self.budget.max_drop == 0:
            return "--max-drop 0% allows equal answers only"
        if test_rows < SMALLEST_FOR_SURGERY:
            return f"{test_rows} test rows are too few, under {SMALLEST_FOR_SURGERY}"
        return None if model.can_shrink else f"{model.family} has no adapter"
