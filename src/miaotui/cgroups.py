"""Limits that Linux's control groups set for this process, of version 1 and 2."""

import math
from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
ROOT_MEMBERSHIP = "0::/\n1:cpu:/\n2:memory:/\n"
"""The text of /proc/self/cgroup for a process at the root, of version 1 or 2."""


def cgroup_cores(root: Path, membership: str = ROOT_MEMBERSHIP) -> int | None:
    """The CPU quota in whole cores, rounded up, or None where there is no quota.

    `root` stands for /sys/fs/cgroup and `membership` for the text of /proc/self/cgroup; the
    narrowest quota from the process's own group up to the root counts, of version 1 and 2.
    """
    quotas = [
        quota
        for folder in _cgroup_folders(root, membership, "cpu")
        for quota in (_quota_v2(folder), _quota_v1(folder))
        if quota is not None
    ]
    return max(1, math.ceil(min(quotas))) if quotas else None


def cgroup_memory_bytes(root: Path, membership: str = ROOT_MEMBERSHIP) -> int | None:
    """The memory limit, or None where there is none; arguments as for `cgroup_cores`."""
    limits = [
        limit
        for folder in _cgroup_folders(root, membership, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (limit := _number(read_text(folder / name))) is not None
    ]
    return min(limits) if limits else None


def own_membership() -> str:
    """The text of /proc/self/cgroup."""
    return read_text(Path("/proc/self/cgroup")) or ROOT_MEMBERSHIP


def _cgroup_folders(root: Path, membership: str, controller: str) -> Iterator[Path]:
    """Folders that may hold a limit: the process's group and all above it.

    Inside a container the group's path may be the host's and not exist here: then only the root
    is found, which is the container's own group.
    """
    for line in membership.splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        mounts = (root / controller, root / names) if names else (root, root / "unified")
        inside = Path(path.lstrip("/"))
        below = () if ".." in inside.parts else (inside, *inside.parents)
        for mount in mounts:
            yield mount
            yield from (mount / part for part in below)


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = (read_text(folder / "cpu.max") or "").strip().partition(" ")
    return _cores_of(_number(quota), _number(period))


def _quota_v1(folder: Path) -> float | None:
    quota = _number(read_text(folder / "cpu.cfs_quota_us"))
    return _cores_of(quota, _number(read_text(folder / "cpu.cfs_period_us")))


def _cores_of(quota_us: int | None, period_us: int | None) -> float | None:
    return quota_us / period_us if quota_us and period_us else None


def _number(text: str | None) -> int | None:
    """A whole number of 0 or more; "max", "-1" and nothing mean no limit."""
    stripped = (text or "").strip()
    return int(stripped) if stripped.isdigit() else None


def read_text(path: Path) -> str | None:
    """A system file's text; None where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
