"""What this machine can do: processor, usable cores and memory, versions of what runs on it.

Everything that reads a system file parses a text or a root folder given to it, so that other
machines can be tested on this one. Nothing here imports an engine.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from miaotui.cgroups import (
    CGROUP_ROOT,
    cgroup_cores,
    cgroup_memory_bytes,
    own_membership,
    read_text,
)
from miaotui.errors import BudgetError

ISA_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "neon",
    "i8mm",
    "sve",
)
"""The instruction sets that decide which kernels run, by their names in /proc/cpuinfo."""

PACKAGES = (
    "torch",
    "transformers",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "nncf",
    "miaotui-native",
    "tensorrt",
    "cuda-bindings",
    "tokenizers",
    "numpy",
)
"""Packages whose version changes speed or results."""

_BEST_FIRST = (
    ("amx", ("amx_tile", "amx_int8")),
    ("avx512_vnni", ("avx512_vnni",)),
    ("avx_vnni", ("avx_vnni",)),
    ("avx512", ("avx512f",)),
    ("avx2", ("avx2",)),
    ("neon-i8mm", ("neon", "i8mm")),
    ("neon", ("neon",)),
)
_ALIASES = {"asimd": "neon", "avx2_0": "avx2", "advsimd": "neon", "feat_i8mm": "i8mm"}
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_PROBE_TIMEOUT_S = 5


@dataclass(frozen=True)
class Cpu:
    """A processor's name and those of `ISA_FLAGS` that it has, in that order."""

    model: str
    isa: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """A machine as this process sees it; `cores` and `memory_usable_bytes` are what it may use."""

    cpu_model: str
    architecture: str
    isa: tuple[str, ...]
    cores: int
    host_cores: int
    memory_total_bytes: int
    memory_usable_bytes: int
    os: str
    python: str
    versions: dict[str, str]
    gpus: tuple[str, ...] = ()

    @property
    def instruction_set(self) -> str:
        """The best set for int8: amx, avx512_vnni, avx_vnni, avx512, avx2, neon-i8mm, neon."""
        for name, needed in _BEST_FIRST:
            if set(needed) <= set(self.isa):
                return name
        return "baseline"

    @property
    def saturates_int8(self) -> bool:
        """Whether int8 products are added in 16 bits, so that 8-bit weights may overflow."""
        return self.instruction_set in ("avx512", "avx2", "baseline")

    @property
    def computes_bf16(self) -> bool:
        """Whether bf16 is multiplied by the processor instead of being emulated."""
        return computes_bf16(self.isa)


def computes_bf16(isa: Sequence[str]) -> bool:
    """Whether a processor with these instruction sets multiplies bf16."""
    return "amx_bf16" in isa or "avx512_bf16" in isa


def probe() -> Machine:
    """Looks at this machine; takes milliseconds and imports nothing heavy."""
    cpu = _probe_cpu()
    total = int(psutil.virtual_memory().total)
    limit = cgroup_memory_bytes(CGROUP_ROOT, own_membership())
    return Machine(
        cpu_model=cpu.model,
        architecture=_architecture(),
        isa=cpu.isa,
        cores=usable_cores(),
        host_cores=os.cpu_count() or 1,
        memory_total_bytes=total,
        memory_usable_bytes=total if limit is None else min(total, limit),
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=installed_versions(),
        gpus=_probe_gpus(),
    )


def environment_fingerprint(machine: Machine) -> str:
    """16 hex digits that change where speed may: processor, instruction set, cores, versions."""
    facts = [
        machine.cpu_model,
        machine.instruction_set,
        machine.cores,
        machine.python,
        sorted(machine.versions.items()),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def installed_versions() -> dict[str, str]:
    """Versions of those of `PACKAGES` that are installed, without importing them."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


# --- processor ---


def parse_cpuinfo(text: str) -> Cpu:
    """Reads /proc/cpuinfo of Linux on x86 or ARM, where a big.LITTLE has what all cores have."""
    fields: dict[str, str] = {}
    flags: set[str] | None = None
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if not separator:
            continue
        key, words = name.strip().lower(), value.strip()
        fields.setdefault(key, words)
        if key in ("flags", "features"):
            here = set(words.lower().split())
            flags = here if flags is None else flags & here
    return Cpu(_model_name(fields), _known_flags(flags or set()))


def parse_sysctl(text: str) -> Cpu:
    """Reads `sysctl machdep.cpu.brand_string hw.optional` of macOS."""
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    flags = {
        name.rsplit(".", 1)[-1].lower()
        for name, value in fields.items()
        if name.startswith("hw.optional.") and value.strip() == "1"
    }
    return Cpu(fields.get("machdep.cpu.brand_string", "unknown").strip(), _known_flags(flags))


def _model_name(fields: dict[str, str]) -> str:
    if "model name" in fields:
        return fields["model name"]
    if "cpu part" in fields:
        return f"ARM implementer {fields.get('cpu implementer', '?')} part {fields['cpu part']}"
    return fields.get("hardware", "unknown")


def _known_flags(flags: set[str]) -> tuple[str, ...]:
    named = {_ALIASES.get(flag, flag) for flag in flags}
    return tuple(flag for flag in ISA_FLAGS if flag in named)


def _probe_cpu() -> Cpu:
    text = read_text(Path("/proc/cpuinfo"))
    if text is not None:
        return parse_cpuinfo(text)
    if sys.platform == "darwin":
        return parse_sysctl(_output_of("sysctl", "machdep.cpu.brand_string", "hw.optional"))
    baseline = ("neon",) if _architecture() == "aarch64" else ()
    return Cpu(platform.processor() or "unknown", baseline)


def _architecture() -> str:
    name = platform.machine().lower()
    return _ARCHITECTURES.get(name, name)


def cpp_compiler() -> str | None:
    """The path of a C++ compiler; None where there is none."""
    return next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)


# --- graphics processors ---


def parse_nvidia_information(text: str) -> str:
    """Reads the model of /proc/driver/nvidia/gpus/*/information."""
    match = re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE)
    return match[1] if match else "NVIDIA GPU"


def _probe_gpus() -> tuple[str, ...]:
    """Names of NVIDIA GPUs, empty where there is none."""
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    if cards:
        return tuple(parse_nvidia_information(read_text(card) or "") for card in cards)
    if shutil.which("nvidia-smi") is None:
        return ()
    names = _output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return tuple(line.strip() for line in names.splitlines() if line.strip())


# --- cores ---


def usable_cores() -> int:
    """Cores this process may use: its affinity, and the CPU quota rounded up."""
    quota = cgroup_cores(CGROUP_ROOT, own_membership())
    allowed = len(_allowed_cores())
    return allowed if quota is None else min(allowed, quota)


def usable_core_numbers(most: int | None = None) -> tuple[int, ...]:
    """The numbers of the cores this process may use, at most `most` of them."""
    usable = usable_cores()
    return _allowed_cores()[: usable if most is None else min(most, usable)]


def limit_cores(n: int) -> tuple[int, ...]:
    """Restricts this process, all its threads and later children to `n` of its cores; names them.

    Call it before an engine starts its threads: pools keep the size they were made with. Raises
    BudgetError where `n` is less than 1, more than is available, or cannot be enforced here.
    """
    available = usable_cores()
    if not 1 <= n <= available:
        raise BudgetError(f"{n} cores asked for; choose from 1 to {available}, what is usable here")
    chosen = _allowed_cores()[:n]
    if hasattr(os, "sched_setaffinity"):
        _pin_all_threads(chosen)
    elif n < available:
        raise BudgetError(
            f"{platform.system()} cannot restrict a process to {n} of {available} cores; "
            f"leave the number of cores out, or set the threads of the engine instead"
        )
    return chosen


def use_cores(n: int | None = None) -> int:
    """How many cores to run on: all that are usable where nobody asks for `n`. Fewer are enforced
    as by `limit_cores`, which also refuses more."""
    available = usable_cores()
    wanted = available if n is None else n
    if wanted != available:
        limit_cores(wanted)
    return wanted


def _allowed_cores() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _pin_all_threads(cores: tuple[int, ...]) -> None:
    """The system call is per thread; children and later threads inherit from the caller."""
    os.sched_setaffinity(0, cores)
    for thread in psutil.Process().threads():
        try:
            os.sched_setaffinity(thread.id, cores)
        except ProcessLookupError:  # it has ended since
            continue


# --- memory ---


def peak_memory_bytes() -> int:
    """The most memory this process ever held.

    Linux keeps two peaks. `getrusage` starts a child at the size of the process that started it,
    so that a small child of a large parent seems large; VmHWM is the program's own.
    """
    own = re.search(r"^VmHWM:\s*(\d+) kB", read_text(Path("/proc/self/status")) or "", re.MULTILINE)
    if own is not None:
        return int(own[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # Unix only

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes() -> int:
    """The memory this process holds now."""
    return int(psutil.Process().memory_info().rss)


def _output_of(*command: str) -> str:
    """What a system tool prints, nothing where it is missing or fails: a probe never crashes."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
