#!/usr/bin/env bash
# The native code's own tests for aarch64, cross-compiled and emulated: all kernels agree, and a
# processor without SDOT is given the plain ones. Needs Debian's g++-aarch64-linux-gnu and qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."

compiler=aarch64-linux-gnu-g++
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

object_of() { echo "$work/$(basename "$1").o"; }

compile() {
  local processor="armv8-a"
  if [ "$1" = isa/neon_dot ]; then processor="armv8.2-a+dotprod"; fi
  "$compiler" -march="$processor" -std=c++17 -O2 -Wall -Wextra -Werror -Wno-psabi \
    -Wno-uninitialized -Wno-maybe-uninitialized -c "$1.cpp" -o "$(object_of "$1")"
}

# build NAME SOURCE...: a test of these sources, all compiled at once.
build() {
  local name="$1" objects=() builds=() source one
  shift
  for source in "$@"; do
    compile "$source" &
    builds+=($!)
    objects+=("$(object_of "$source")")
  done
  for one in "${builds[@]}"; do wait "$one"; done
  "$compiler" -static -pthread "${objects[@]}" -o "$work/$name"
}

# expect WORDS COMMAND...: the command passes and says so.
expect() {
  local words="$1"
  shift
  "$@" | tee "$work/said"
  grep -q -e "$words" "$work/said" || { echo "not said by $*: $words" >&2; exit 1; }
}

build encoder encoder groups packing dispatch pool processor team isa/portable isa/neon_dot tests/encoder_test
build pool pool tests/pool_test
build wordpiece wordpiece tests/wordpiece_test

expect "agree: neon_dot portable$" qemu-aarch64 "$work/encoder" kernels
expect "passed: neon_dot portable$" qemu-aarch64 "$work/encoder" threads
expect "passed: portable$" qemu-aarch64 -cpu cortex-a53 "$work/encoder" threads  # has no SDOT
expect passed qemu-aarch64 "$work/pool"
expect passed qemu-aarch64 "$work/wordpiece"
