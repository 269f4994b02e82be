"""What takes part in a speed measurement, and how long and often it is measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from miaotui.errors import BudgetError
from miaotui.measure.records import Condition
from miaotui.tasks.base import Text


@dataclass(frozen=True)
class Contender:
    """Something that answers texts. `run` takes many at once, `run_one` one (batch 1).

    `conditions` (batch, threads, engine) are stored with its values. Without `run_one` no latency
    is measured. `droppable=False` keeps it in the race whatever the deadline.
    """

    name: str
    run: Callable[[Sequence[Text]], object]
    run_one: Callable[[Text], object] | None = None
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    droppable: bool = True


@dataclass(frozen=True)
class SpeedPlan:
    """How long and how often to measure.

    A round gives every contender the same texts, as many as keep the fastest one busy for
    `round_seconds`; one that would need more than `max_round_seconds` gets a prefix of them.
    `latency_calls` are spread over the rounds. Under a deadline, contenders are dropped rather
    than measured in fewer than `min_rounds`.
    """

    rounds: int = 10
    min_rounds: int = 3
    round_seconds: float = 2.0
    max_round_seconds: float = 10.0
    latency_calls: int = 1000
    warmup_rows: int = 16
    warmup_calls: int = 20
    settle_seconds: float = 0.1
    """Pause before a contender's turn, as thread pools of the one before may still be spinning."""
    seed: int = 0
    """Of the order in which texts enter the rounds; batch-1 calls follow the rows' own order."""

    def least_seconds(self, call_s: float) -> float:
        """What a contender slower than the fastest takes at least, warm-up included, where one text
        takes it `call_s`."""
        rounds_s = self.min_rounds * (self.max_round_seconds + self.settle_seconds)
        warm_up_s = self.max_round_seconds + self.warmup_calls * call_s
        return warm_up_s + rounds_s + self.latency_calls * call_s

    def __post_init__(self) -> None:
        if not 1 <= self.min_rounds <= self.rounds:
            raise BudgetError(
                f"min_rounds is {self.min_rounds} of {self.rounds} rounds; expected 1 to rounds"
            )
        if not 0 < 2 * self.round_seconds <= self.max_round_seconds:
            raise BudgetError(
                f"round_seconds is {self.round_seconds:g} and max_round_seconds "
                f"{self.max_round_seconds:g}; expected more than 0 and at least twice as much"
            )
        if min(self.latency_calls, self.settle_seconds) < 0:
            raise BudgetError("latency_calls and settle_seconds cannot be negative; use 0")
        if min(self.warmup_rows, self.warmup_calls) < 1:
            raise BudgetError("warmup_rows and warmup_calls must be at least 1")
