#!/usr/bin/env bash
# The native code's own tests under each sanitizer. Needs a C++ compiler and its sanitizers' libraries.
set -euo pipefail
cd "$(dirname "$0")/.."

compiler="${CXX:-c++}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

avx512="-mavx2 -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"

# AMX and AVX-VNNI are emulated, so that they are tested where AVX-512 is.
isa_flags() {
  case "$1" in
    *amx.cpp) echo "$avx512 -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16 -DMIAOTUI_EMULATED_TILES" ;;
    *avx512_bf16.cpp) echo "$avx512 -mavx512bf16" ;;
    *avx512_vnni.cpp) echo "$avx512" ;;
    *avx_vnni.cpp) echo "-mavx2 -mfma -mavx512vl -mavx512vnni -DMIAOTUI_EMULATED_AVX_VNNI" ;;
    *avx2.cpp) echo "-mavx2 -mfma" ;;
  esac
}

object_of() { echo "$work/${1%%,*}-$(basename "$2").o"; }

compile() {
  local flags=""
  if [ "$(uname -m)" = x86_64 ]; then flags="$(isa_flags "$2")"; fi
  # shellcheck disable=SC2086
  "$compiler" -std=c++17 -O1 -g -fno-omit-frame-pointer -Wno-psabi -Wno-uninitialized \
    -fno-sanitize-recover=all -fsanitize="$1" $flags -c "$2" -o "$(object_of "$1" "$2")"
}

# run SANITIZER NAME SOURCE...: builds a test, all sources at once, and runs it.
run() {
  local sanitizer="$1" name="$2" objects=() builds=() source build
  shift 2
  for source in "$@"; do
    compile "$sanitizer" "$source" &
    builds+=($!)
    objects+=("$(object_of "$sanitizer" "$source")")
  done
  for build in "${builds[@]}"; do wait "$build"; done
  "$compiler" -fsanitize="$sanitizer" -pthread "${objects[@]}" -o "$work/$name"
  echo "$sanitizer: $name"
  "$work/$name"
}

for sanitizer in address,undefined thread; do
  run "$sanitizer" encoder encoder.cpp packing.cpp dispatch.cpp pool.cpp isa/*.cpp \
    tests/encoder_test.cpp
done
run address,undefined wordpiece wordpiece.cpp tests/wordpiece_test.cpp
