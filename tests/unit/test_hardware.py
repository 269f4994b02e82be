"""Other machines, told by their files, and the limits of this one."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from miaotui import hardware
from miaotui.cgroups import cgroup_cores, cgroup_memory_bytes
from miaotui.errors import BudgetError
from miaotui.hardware import Cpu, Machine

SERVER_FLAGS = "fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 avx_vnni amx_bf16 amx_tile amx_int8"

X86 = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: {flags}

processor\t: 1
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: {flags}
"""

ARM = """\
processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40

processor\t: 1
Features\t: fp asimd evtstrm aes i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""

MACOS = """\
machdep.cpu.brand_string: Apple M2
hw.optional.neon: 1
hw.optional.AdvSIMD: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
hw.optional.avx2_0: 0
"""


def machine(**changes: object) -> Machine:
    plain = Machine(
        cpu_model="Xeon",
        architecture="x86_64",
        isa=("avx2",),
        cores=2,
        host_cores=8,
        memory_total_bytes=16 << 30,
        memory_usable_bytes=4 << 30,
        os="Linux 6.1",
        python="3.11.7",
        versions={"torch": "2.13.0", "numpy": "2.4.6"},
    )
    return dataclasses.replace(plain, **changes)


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


class TestProcessor:
    def test_reads_a_server(self) -> None:
        cpu = hardware.parse_cpuinfo(X86.format(flags=SERVER_FLAGS))
        assert cpu.model == "Intel(R) Xeon(R) Processor"
        assert set(cpu.isa) == set(SERVER_FLAGS.split()) - {"fpu", "sse2"}

    def test_flags_match_whole_words(self) -> None:
        assert hardware.parse_cpuinfo(X86.format(flags="avx avx2x avx512_vnni2")).isa == ()

    def test_an_arm_processor_has_what_all_its_cores_have(self) -> None:
        cpu = hardware.parse_cpuinfo(ARM)
        assert cpu == Cpu("ARM implementer 0x41 part 0xd40", ("neon", "i8mm"))

    def test_reads_macos(self) -> None:
        assert hardware.parse_sysctl(MACOS) == Cpu("Apple M2", ("neon", "i8mm"))

    @pytest.mark.parametrize("parse", [hardware.parse_cpuinfo, hardware.parse_sysctl])
    @pytest.mark.parametrize("text", ["", "\n\n", "no separator\n", ":\n"])
    def test_an_unknown_processor_is_no_error(self, parse, text: str) -> None:
        assert parse(text) == Cpu("unknown", ())

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            (SERVER_FLAGS, "amx"),
            ("avx2 avx512f avx512_vnni", "avx512_vnni"),
            ("avx2 avx_vnni", "avx_vnni"),
            ("avx2 avx512f", "avx512"),
            ("avx2", "avx2"),
            ("neon i8mm sve", "neon-i8mm"),
            ("neon", "neon"),
            ("", "baseline"),
        ],
    )
    def test_the_best_instruction_set(self, flags: str, expected: str) -> None:
        assert machine(isa=tuple(flags.split())).instruction_set == expected

    @pytest.mark.parametrize(
        ("flag", "expected"), [("amx_bf16", True), ("avx512_bf16", True), ("avx512f", False)]
    )
    def test_bf16_needs_its_own_instructions(self, flag: str, expected: bool) -> None:
        assert machine(isa=(flag,)).computes_bf16 is expected


def test_reads_the_model_of_a_gpu() -> None:
    text = "Model: \t\t NVIDIA L4\nIRQ:   \t\t 11\n"
    assert hardware.parse_nvidia_information(text) == "NVIDIA L4"
    assert hardware.parse_nvidia_information("") == "NVIDIA GPU"


class TestControlGroups:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("max 100000", None),
            ("200000 100000", 2),
            ("150000 100000\n", 2),
            ("10000 100000", 1),
            ("", None),
            ("garbage", None),
        ],
    )
    def test_version_2_quota(self, tmp_path: Path, text: str, expected: int | None) -> None:
        assert cgroup_cores(write(tmp_path, cpu_DOT_max=text)) == expected

    @pytest.mark.parametrize(("quota", "expected"), [("-1", None), ("250000", 3), ("50000", 1)])
    def test_version_1_quota(self, tmp_path: Path, quota: str, expected: int | None) -> None:
        write(tmp_path / "cpu", cpu_DOT_cfs_quota_us=quota, cpu_DOT_cfs_period_us="100000")
        assert cgroup_cores(tmp_path) == expected

    def test_nothing_mounted_means_no_limit(self, tmp_path: Path) -> None:
        assert cgroup_cores(tmp_path) is None
        assert cgroup_memory_bytes(tmp_path) is None

    def test_the_narrowest_group_on_the_way_up_counts(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            a__cpu_DOT_max="300000 100000",
            a__b__cpu_DOT_max="max 100000",
            a__memory_DOT_max="2000",
            a__b__memory_DOT_max="5000",
            other__cpu_DOT_max="100000 100000",
        )
        assert cgroup_cores(tmp_path, "0::/a/b\n") == 3
        assert cgroup_memory_bytes(tmp_path, "0::/a/b\n") == 2000

    def test_version_1_controllers_may_share_a_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "cpu,cpuacct" / "job"
        write(folder, cpu_DOT_cfs_quota_us="400000", cpu_DOT_cfs_period_us="100000")
        assert cgroup_cores(tmp_path, "4:cpu,cpuacct:/job\n0::/\n") == 4

    def test_a_hybrid_mount_keeps_version_2_below_unified(self, tmp_path: Path) -> None:
        write(tmp_path, unified__a__cpu_DOT_max="100000 100000")
        assert cgroup_cores(tmp_path, "0::/a\n") == 1

    def test_a_path_of_the_host_seen_from_a_container_falls_back_to_the_root(
        self, tmp_path: Path
    ) -> None:
        write(tmp_path, memory__memory_DOT_limit_in_bytes="4096")
        assert cgroup_memory_bytes(tmp_path, "4:memory:/docker/0123\n") == 4096
        assert cgroup_memory_bytes(tmp_path, "4:memory:/../outside\n") == 4096

    def test_memory_without_a_limit(self, tmp_path: Path) -> None:
        assert cgroup_memory_bytes(write(tmp_path, memory_DOT_max="max\n")) is None


class TestProbe:
    def test_this_machine_is_sane(self) -> None:
        seen = hardware.probe()
        assert 1 <= seen.cores <= seen.host_cores
        assert 0 < seen.memory_usable_bytes <= seen.memory_total_bytes
        assert seen.versions["numpy"]
        assert seen.instruction_set

    def test_it_survives_json(self) -> None:
        adapter = TypeAdapter(Machine)
        seen = hardware.probe()
        assert adapter.validate_json(adapter.dump_json(seen)) == seen

    def test_it_imports_no_engine(self) -> None:
        script = (
            "import json, sys; from miaotui.hardware import PACKAGES, probe; probe();"
            "print(json.dumps([p for p in PACKAGES if p in sys.modules]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == []


class TestFingerprint:
    def test_it_is_short_and_stable(self) -> None:
        text = hardware.environment_fingerprint(machine())
        assert text == hardware.environment_fingerprint(machine())
        assert len(text) == 16

    @pytest.mark.parametrize(
        "changes",
        [
            {"cpu_model": "EPYC"},
            {"isa": ("avx2", "avx512f")},
            {"cores": 1},
            {"versions": {"torch": "2.13.1", "numpy": "2.4.6"}},
        ],
    )
    def test_it_changes_with_what_changes_speed(self, changes: dict[str, object]) -> None:
        changed = hardware.environment_fingerprint(machine(**changes))
        assert changed != hardware.environment_fingerprint(machine())

    @pytest.mark.parametrize(
        "changes",
        [
            {"memory_total_bytes": 1},
            {"host_cores": 64},
            {"versions": {"numpy": "2.4.6", "torch": "2.13.0"}},
        ],
    )
    def test_it_ignores_the_rest(self, changes: dict[str, object]) -> None:
        changed = hardware.environment_fingerprint(machine(**changes))
        assert changed == hardware.environment_fingerprint(machine())


class TestLimitCores:
    @pytest.mark.parametrize("n", [-1, 0, 10_000])
    def test_an_impossible_number_is_refused(self, n: int) -> None:
        with pytest.raises(BudgetError, match="choose from 1 to"):
            hardware.limit_cores(n)

    @pytest.mark.skipif(
        not hasattr(os, "sched_setaffinity"), reason="this system has no sched_setaffinity"
    )
    def test_threads_and_children_stay_within(self) -> None:
        script = """
import os, subprocess, sys, threading
from miaotui.hardware import limit_cores, usable_cores
seen, begin = [], threading.Event()
def work():
    begin.wait()
    seen.append(sorted(os.sched_getaffinity(0)))
early = threading.Thread(target=work)
early.start()
chosen = list(limit_cores(1))
begin.set()
early.join()
child = "import os; print(sorted(os.sched_getaffinity(0)))"
child = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
print(seen == [chosen], child.stdout.strip() == str(chosen), usable_cores())
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["True", "True", "1"]


class TestMemory:
    def test_the_peak_follows_what_is_held(self) -> None:
        before = hardware.peak_memory_bytes()
        block = b"x" * (64 << 20)
        assert hardware.resident_bytes() > len(block)
        del block
        assert hardware.peak_memory_bytes() >= max(before, 64 << 20)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs VmHWM of Linux")
    def test_a_small_child_of_a_large_process_is_small(self) -> None:
        block = b"x" * (256 << 20)
        script = "from miaotui.hardware import peak_memory_bytes; print(peak_memory_bytes())"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert 0 < int(done.stdout) < len(block)


def test_all_cores_are_used_where_nobody_asks_and_no_more_than_there_are() -> None:
    available = hardware.usable_cores()
    assert hardware.use_cores() == hardware.use_cores(available) == available
    for n in (0, available + 1):
        with pytest.raises(BudgetError, match="choose from 1 to"):
            hardware.use_cores(n)
