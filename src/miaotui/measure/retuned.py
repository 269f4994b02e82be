"""What `bench --retune` tried for a bundle on this machine, and what it chose."""

from collections.abc import Mapping
from dataclasses import dataclass

from miaotui.measure.statistics import Ratio


@dataclass(frozen=True)
class Retuned:
    """`was`, `compared_with` and `chosen` name settings. `was_refused` says why what ran the bundle
    cannot run here, None where it can; `compared_with` is then the fastest of the others when each
    was tried alone. It is also what was chosen where nothing was clearly faster, and `times_faster`
    is None then. `judged_by` is throughput or p99. `speeds` are rows/s or the
    median latency in ms of what answered the golden rows alike, `refused` says why others are out.
    `agreement` is that of what was chosen; `kept_in` is the folder of the choice."""

    was: str
    was_refused: str | None
    compared_with: str
    chosen: str
    judged_by: str
    times_faster: Ratio | None
    agreement: float
    golden_inputs: int
    cores: int
    speeds: Mapping[str, float]
    refused: Mapping[str, str]
    kept_in: str
