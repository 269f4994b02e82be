"""Ten million rows through the native tokenizer and engine: memory must not grow.

    python benchmarks/endurance.py [--rows 10000000]

A two-layer encoder with random weights, so that it is over in minutes; texts of 0 to 30 words, some
with a code point never met before, in batches of uneven size and now and then alone. Resident
memory is read after every hundredth of the rows; the script fails where the second half grew by
more than 4 MB. Result: results/endurance.json.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from packaged import conditions, encoder_folder, write_result

from miaotui.engines.native import NativeEngine
from miaotui.hardware import probe, resident_bytes
from miaotui.models.encoder import Encoder
from miaotui.models.model import Model
from miaotui.models.shape import Activation, EncoderShape, HeadKind, LayerShape
from miaotui.tasks.problems import Problem
from miaotui.tasks.saved import read_tokenizer
from miaotui.tasks.text_classification import TextClassification

MOST_GROWTH = 4_000_000
MOST_TOKENS = 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000_000)
    given = options.parse_args()
    task = TextClassification.of(
        read_tokenizer(encoder_folder() / "tokenizer.json"),
        ["no", "yes"],
        Problem.SINGLE_LABEL,
        MOST_TOKENS,
    )
    with tempfile.TemporaryDirectory() as folder:
        NativeEngine().build(Model(random_encoder(), task, "bert"), None, Path(folder))
        session = NativeEngine().open(Path(folder), probe().cores)
    draw = random.Random(0)
    words = [word for word in task.tokenizer.get_vocab() if word.isalpha()]
    done, said, began = 0, 0, time.perf_counter()
    memory: list[int] = []
    while done < given.rows:
        texts = [text(draw, words) for _ in range(draw.choice([1, 7, 64, 1000, 5000]))]
        for _ in range(20):  # made once, used often: making texts would take most of the time
            session.run(task.encode(texts))
            done += len(texts)
        if done >= said:
            said += given.rows // 100
            memory.append(resident_bytes())
            left = (time.perf_counter() - began) / done * (given.rows - done)
            sys.stderr.write(f"{done} rows, {memory[-1] / 1e6:.1f} MB, {max(left, 0):.0f} s left\n")
    growth = memory[-1] - memory[len(memory) // 2]
    results = {
        "conditions": conditions(),
        "rows": done,
        "seconds": time.perf_counter() - began,
        "resident_bytes": memory,
        "growth_in_second_half_bytes": growth,
    }
    write_result("endurance", results)
    print(f"{done} rows; the second half grew by {growth} bytes")
    if growth > MOST_GROWTH:
        sys.exit(1)


def random_encoder() -> Encoder:
    torch.manual_seed(0)
    shape = EncoderShape(
        family="bert",
        vocab=30522,
        embedding=64,
        hidden=64,
        head_dim=16,
        positions=MOST_TOKENS,
        position_offset=0,
        types=2,
        layers=(LayerShape(4, 128),) * 2,
        activation=Activation.GELU,
        norm_eps=1e-12,
        head_kind=HeadKind.TANH,
        labels=2,
    )
    return Encoder(shape).eval()


def text(draw: random.Random, words: list[str]) -> str:
    chosen = draw.choices(words, k=draw.randrange(31))
    if draw.random() < 0.01:
        chosen.append(chr(draw.randrange(0xE000, 0x110000)))
    return " ".join(chosen)


if __name__ == "__main__":
    main()
