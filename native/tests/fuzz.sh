#!/usr/bin/env bash
# Fuzzes the file reader, then the tokenizer, on kernels built with sanitizers: half of $1 seconds
# each (default 600). Needs what `make sanitize` needs, and .venv.
set -euo pipefail
cd "$(dirname "$0")/../.."

half="$((${1:-600} / 2))"
compiler="${CXX:-c++}"
python=.venv/bin/python
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

flags="-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
"$python" -m pip install --disable-pip-version-check --quiet --no-deps --no-cache-dir \
  --target "$work/kernels" -C build-dir="$work/build" \
  -C cmake.define.CMAKE_CXX_FLAGS="$flags" ./native
"$python" tests/fuzz/native.py write "$work/bundle"

export PYTHONPATH="$work/kernels"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
preload="$("$compiler" -print-file-name=libasan.so):$("$compiler" -print-file-name=libubsan.so)"
LD_PRELOAD="$preload" "$python" tests/fuzz/native.py files "$work/bundle" --seconds "$half"
LD_PRELOAD="$preload" "$python" tests/fuzz/native.py tokenizer --seconds "$half"
