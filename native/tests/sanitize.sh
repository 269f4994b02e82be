#!/usr/bin/env bash
# The encoder's own tests under each sanitizer. Needs a C++ compiler and its sanitizers' libraries.
set -euo pipefail
cd "$(dirname "$0")/.."

compiler="${CXX:-c++}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

isa_flags() {
  case "$1" in
    *avx512_vnni*) echo "-mavx2 -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni" ;;
    *avx2*) echo "-mavx2 -mfma" ;;
  esac
}

for sanitizer in address,undefined thread; do
  objects=()
  for source in encoder.cpp packing.cpp dispatch.cpp pool.cpp isa/*.cpp tests/encoder_test.cpp; do
    object="$work/${sanitizer%%,*}-$(basename "$source").o"
    flags=""
    if [ "$(uname -m)" = x86_64 ]; then flags="$(isa_flags "$source")"; fi
    # shellcheck disable=SC2086
    "$compiler" -std=c++17 -O1 -g -fno-omit-frame-pointer -Wno-psabi -fno-sanitize-recover=all \
      -fsanitize="$sanitizer" $flags -c "$source" -o "$object"
    objects+=("$object")
  done
  "$compiler" -fsanitize="$sanitizer" -pthread "${objects[@]}" -o "$work/test"
  echo "$sanitizer:"
  "$work/test"
done
