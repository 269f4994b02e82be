#!/usr/bin/env bash
# Installs what `make wheels` built into a clean environment in which nothing can be compiled, and
# goes through the README's commands there: native kernels answer. Needs .venv.
set -euo pipefail
cd "$(dirname "$0")/../.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# A tiny model and rows of its own: what is tested is the installation.
PYTHONPATH=tests .venv/bin/python - "$work" <<'PYTHON'
import sys
from pathlib import Path

from tiny import save_tiny
from tiny_job import write_rows

work = Path(sys.argv[1])
write_rows(work / "rows.csv", save_tiny("bert", work / "encoder"), 1000)
PYTHON

.venv/bin/python -m venv "$work/venv"
built="$PWD/.venv/bin/python"
constraints="$PWD/constraints.txt"
dist="$PWD/dist"
cd "$work"
CC=/nowhere CXX=/nowhere venv/bin/python -m pip install --disable-pip-version-check --quiet \
  --only-binary :all: --find-links "$dist" -c "$constraints" "miaotui[optimize,native]"

miaotui() { env -i HOME="$work" PATH="$work/venv/bin" HF_HUB_OFFLINE=1 miaotui "$@"; }
miaotui probe | tee probe.txt
grep -q "engines.native  *available" probe.txt
kernels() { "$1" -c 'import miaotui_native; print(*miaotui_native.kernels_here())'; }
if [ "$(kernels venv/bin/python)" != "$(kernels "$built")" ]; then
  echo "the wheel has other kernels than what was built here: $(kernels venv/bin/python);" \
    "here: $(kernels "$built")" >&2
  exit 1
fi
miaotui finetune encoder --data rows.csv --epochs 1 --out model
miaotui optimize model --data rows.csv --max-drop 5% --time-budget 60s --engines native --out fast
miaotui bench fast
miaotui predict fast "a quiet film" | tee answer.txt
grep -q '"label"' answer.txt
miaotui show fast > /dev/null
miaotui report fast
miaotui export fast --to onnx --out plain.onnx
echo "the wheels work without a compiler"
