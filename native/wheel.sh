#!/usr/bin/env bash
# Builds the wheel of the native engine for every Linux of glibc 2.28 or newer into dist/: clang and
# libc++ of the ziglang package, so that neither this machine's compiler nor its glibc get into it.
# Needs a Python with the packages of the extra `wheels`, named by $1.
set -euo pipefail
cd "$(dirname "$0")/.."

python="$(realpath -s "$1")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

machine="$(uname -m)"
zig="$("$python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')"
for tool in "c++" cc ar ranlib; do
  target=""
  case "$tool" in c++ | cc) target="-target $machine-linux-gnu.2.28" ;; esac
  printf '#!/bin/sh\nexec "%s" %s %s "$@"\n' "$zig" "$tool" "$target" > "$work/$tool"
  chmod +x "$work/$tool"
done

export CC="$work/cc" CXX="$work/c++" AR="$work/ar" RANLIB="$work/ranlib"
"$python" -m pip wheel --disable-pip-version-check --no-deps --wheel-dir "$work/built" \
  -C build-dir="$work/build" ./native
PATH="$(dirname "$python"):$PATH" "$python" -m auditwheel repair --plat "manylinux_2_28_$machine" \
  --only-plat --wheel-dir dist "$work"/built/*.whl
