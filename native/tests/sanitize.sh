#!/usr/bin/env bash
# The native code's own tests: what each instruction set's file defines, then all under each sanitizer.
# Needs a C++ compiler and its sanitizers' libraries.
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

# Without optimization nothing is inlined that need not be: every function that a file would share
# with others is among its symbols. Only its kernels may be (and GCC's own DW.ref).
own_code_only() {
  local source="$1" object="$work/$(basename "$1").o" shared
  # shellcheck disable=SC2046
  "$compiler" -std=c++17 -O0 -Wno-psabi $(isa_flags "$source") -c "$source" -o "$object"
  shared="$(nm -C --defined-only --extern-only "$object" |
    grep -v -e ' miaotui::k[A-Za-z0-9]*$' -e ' DW\.ref\.' || true)"
  if [ -n "$shared" ]; then
    echo "native/$source shares code with files for other processors:" >&2
    echo "$shared" >&2
    exit 1
  fi
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
  "$work/$name" $([ "$sanitizer" = thread ] && echo threads)
}

if [ "$(uname -m)" = x86_64 ]; then
  for source in isa/*.cpp; do own_code_only "$source"; done
fi
for sanitizer in address,undefined thread; do
  run "$sanitizer" encoder encoder.cpp groups.cpp packing.cpp dispatch.cpp pool.cpp processor.cpp team.cpp isa/*.cpp \
    tests/encoder_test.cpp
  run "$sanitizer" pool pool.cpp tests/pool_test.cpp
done
run address,undefined wordpiece wordpiece.cpp tests/wordpiece_test.cpp
