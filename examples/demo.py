"""The main job on the packaged model and rows: fine-tune, optimize, predict.

`make demo` runs it. Nothing is downloaded: the encoder and the rows are installed packages.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from packaged import encoder_folder, miaotui, write_rows

FOLDER = Path("demo")
TIME_BUDGET = "8m"


def main() -> None:
    began = time.monotonic()
    FOLDER.mkdir(exist_ok=True)
    rows, unlabelled = FOLDER / "rows.csv", FOLDER / "unlabelled.txt"
    write_rows(rows, unlabelled)
    model, fast = FOLDER / "model", FOLDER / "fast"
    if not (model / "config.json").exists():
        miaotui("finetune", encoder_folder(), "--data", rows, "--out", model, "--epochs", 2)
    miaotui(
        "optimize", model, "--data", rows, "--unlabelled", unlabelled,
        "--max-drop", "1%", "--time-budget", TIME_BUDGET, "--out", fast,
    )  # fmt: skip
    miaotui("predict", fast, "a warm , funny film", "dull , lifeless and far too long")
    sys.stderr.write(f"done in {time.monotonic() - began:.0f} s; the report: {fast}/report.html\n")


if __name__ == "__main__":
    main()
