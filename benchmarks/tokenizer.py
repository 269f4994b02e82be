"""Native WordPiece against the stock tokenizer: the same ids on a million texts, and the time.

    python benchmarks/tokenizer.py [--texts 1000000]

Texts are packaged review sentences (English), random mixtures of many scripts, emoji, control
characters and any code point, and sentences with characters replaced by such; every other batch is
of pairs. Ids, types and truncations must all be equal; the script fails where one is not. Times are
of packaged sentences, a thousand at once and one by one, and of pairs of them, both tokenizers
interleaved. Result: results/tokenizer.json.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from packaged import conditions, encoder_folder, write_result, write_rows

from miaotui.measure.statistics import ratio_interval
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.problems import Problem
from miaotui.tasks.saved import read_tokenizer
from miaotui.tasks.text_classification import TextClassification

SCRIPTS = (
    (0x20, 0x7F), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF),
    (0xE00, 0xEFF), (0x1100, 0x11FF), (0x1E00, 0x20CF), (0x2100, 0x27BF), (0x3000, 0x30FF),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFFFF), (0x1F300, 0x1FAFF), (0, 0x1F),
    (0x20000, 0x2A6DF), (0xE0000, 0xE01EF), (0x1D100, 0x1D24F), (0, 0x10FFFF),
)  # fmt: skip
BATCH = 2000
ROUNDS = 10


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=int, default=1_000_000)
    given = options.parse_args()
    sentences = packaged_sentences()
    tokenizer = read_tokenizer(encoder_folder() / "tokenizer.json")
    task = TextClassification.of(tokenizer, ["no", "yes"], Problem.SINGLE_LABEL, 256)
    if task._native is None:
        sys.exit("the native kernels are not installed; run make setup where there is a compiler")
    left_over = compare(task, sentences, given.texts)
    results = {
        "conditions": conditions(),
        "texts_compared": given.texts,
        "texts_with_other_ids": 0,
        "texts_left_to_stock": left_over,
        "batches": timed(task, sentences, 1000),
        "single": timed(task, sentences, 1),
        "pairs": timed(task, list(zip(sentences[::2], sentences[1::2], strict=False)), 1000),
    }
    print(write_result("tokenizer", results).read_text(encoding="utf-8"))


def packaged_sentences() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder, "rows.csv"), Path(folder, "plain.txt"))
        return Path(folder, "plain.txt").read_text(encoding="utf-8").splitlines()


def compare(task: TextClassification, sentences: list[str], count: int) -> int:
    """Fails at the first text whose ids differ; how many texts the stock tokenizer was given."""
    draw, left_over = random.Random(0), 0
    native = task._native
    if native is None:
        sys.exit("no native tokenizer for this model: nothing to compare")
    original = native._stock

    def counting(texts: Any) -> EncodedRows:
        nonlocal left_over
        left_over += len(texts)
        return original(texts)

    native._stock = counting
    for first in range(0, count, BATCH):
        texts: list[Any] = [varied(draw, sentences) for _ in range(min(BATCH, count - first))]
        if first // BATCH % 2:
            texts = list(zip(texts[::2], texts[1::2], strict=True))
        ours, theirs = task.encode(texts), task._encode_stock(texts)
        if not ours.equals(theirs):
            for i, text in enumerate(texts):
                if not ours.select([i]).equals(theirs.select([i])):
                    sys.exit(f"other ids for {text!r}")
        if first % 100_000 == 0:
            sys.stderr.write(f"{first} of {count} texts are equal\n")
    native._stock = original
    return left_over


def varied(draw: random.Random, sentences: list[str]) -> str:
    kind = draw.random()
    if kind < 0.3:
        return draw.choice(sentences)
    if kind < 0.6:
        text = list(draw.choice(sentences))
        for _ in range(draw.randrange(1, 6)):
            text[draw.randrange(len(text))] = character(draw)
        return "".join(text)
    return "".join(character(draw) for _ in range(draw.randrange(0, 60)))


def character(draw: random.Random) -> str:
    low, high = draw.choice(SCRIPTS)
    point = draw.randint(low, high)
    return "?" if 0xD800 <= point < 0xE000 else chr(point)


def timed(task: TextClassification, sentences: list[Any], batch: int) -> dict[str, Any]:
    """Microseconds a text or a pair, round by round."""
    chosen = sentences[: 4 * batch if batch > 1 else 2000]
    parts = [chosen[i : i + batch] for i in range(0, len(chosen), batch)]
    ways: dict[str, Callable[[list[Any]], EncodedRows]] = {
        "native": task.encode,
        "stock": task._encode_stock,
    }
    values: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, encode in ways.items():
            began = time.perf_counter()
            for part in parts:
                encode(part)
            if number:
                values[name].append((time.perf_counter() - began) / len(chosen) * 1e6)
    ratio = ratio_interval(values["native"], values["stock"], higher_is_better=False)
    return {"microseconds_a_text": values, "faster": [ratio.low, ratio.median, ratio.high]}


if __name__ == "__main__":
    main()
