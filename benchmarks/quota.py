"""A bundle in a container's CPU quota: how many threads it takes, how fast it is per core of it.

    python benchmarks/quota.py BUNDLE TEXTS.txt [--quotas none,1.5,1,0.5]

Needs to write to /sys/fs/cgroup (root in a machine of one's own): each quota is a control group
that a fresh process joins before it imports anything. Per core means per core of the quota (of the
machine where there is none); `against_no_quota` is that over the same without a quota, rounds of
all quotas taken in turns. Result: results/quota.json.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from packaged import conditions, write_result

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
ROUNDS, SECONDS = 5, 2.0
CHILD = """
import sys, time
from pathlib import Path
group, bundle, texts, seconds = sys.argv[1:]
if group:
    Path(group, "cgroup.procs").write_text("0")
import miaotui
from miaotui.hardware import probe
lines = Path(texts).read_text(encoding="utf-8").splitlines()
with miaotui.load(Path(bundle)) as predictor:
    predictor(lines)
    began, rows = time.perf_counter(), 0
    while time.perf_counter() - began < float(seconds):
        predictor(lines)
        rows += len(lines)
    print(probe().cores, rows / (time.perf_counter() - began))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("bundle", type=Path)
    options.add_argument("texts", type=Path)
    options.add_argument("--quotas", default="none,1.5,1,0.5")
    given = options.parse_args()
    quotas = [None if name == "none" else float(name) for name in given.quotas.split(",")]
    speeds: dict[float | None, list[float]] = {quota: [] for quota in quotas}
    threads: dict[float | None, int] = {}
    for _ in range(ROUNDS):
        for quota in quotas:
            threads[quota], rows_per_s = measured(quota, given.bundle, given.texts)
            speeds[quota].append(rows_per_s / (quota or os.cpu_count() or 1))
    alone = np.array(speeds[None]) if None in speeds else None
    runs = [
        {
            "quota_cores": quota,
            "threads": threads[quota],
            "rows_per_s_per_core": float(np.median(of)),
            "against_no_quota": None if alone is None else float(np.median(np.array(of) / alone)),
        }
        for quota, of in speeds.items()
    ]
    write_result("quota", {"conditions": conditions(), "rounds": ROUNDS, "runs": runs})
    print(json.dumps(runs, indent=1))


def measured(quota: float | None, bundle: Path, texts: Path) -> tuple[int, float]:
    """Cores that the process counts, and its rows/s."""
    with group_of(quota) as group:
        arguments = [group, str(bundle), str(texts), str(SECONDS)]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
    cores, rows_per_s = done.stdout.split()
    return int(cores), float(rows_per_s)


@contextmanager
def group_of(quota: float | None) -> Iterator[str]:
    """The folder of a control group of that quota, of version 1 or 2; nothing for none."""
    if quota is None:
        yield ""
        return
    old = (ROOT / "cpu").is_dir()
    group = (ROOT / "cpu" if old else ROOT) / f"miaotui-quota-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        sys.exit(f"no control group can be made here ({error}); run it as root")
    try:
        if old:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(int(quota * PERIOD_US)))
        else:
            (group / "cpu.max").write_text(f"{int(quota * PERIOD_US)} {PERIOD_US}")
        yield str(group)
    finally:
        group.rmdir()


if __name__ == "__main__":
    main()
