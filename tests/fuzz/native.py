"""Feeds the native engine's file reader and tokenizer what no honest user would, until time is up.

    python tests/fuzz/native.py write FOLDER          # a small honest bundle to spoil; needs torch
    python tests/fuzz/native.py files FOLDER [--seconds 300] [--seed 0]
    python tests/fuzz/native.py tokenizer [--seconds 300] [--seed 0]

A spoilt bundle must open and answer, or be refused in one line. Random tokenizers must give the
stock tokenizer's ids, types and truncation. `make fuzz` runs both on kernels built with the address
and undefined-behaviour sanitizers, which end the process at the first fault. What was found names
its seed and number; give the same seed again to see it again.
"""

import argparse
import copy
import json
import random
import string
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from miaotui.engines.native import HEADER_FILE, TENSORS_FILE, NativeEngine
from miaotui.errors import BundleError, EngineFailed
from miaotui.tasks.base import encoded_rows
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification

ROWS = encoded_rows([[1, 5, 2], [1], [3] * 40, []])
NUMBERS = (0, -1, 1, 2, 3, 31, 63, 64, 65, 1 << 16, (1 << 16) + 1, 1 << 31, 1 << 63, -(1 << 40))
LEAVES = (*NUMBERS, 0.5, -1e308, 1e308, float("inf"), float("nan"), "", "gelu", None, True, [], {})
EXTREMES = (0.0, -0.0, 1e-45, 3e38, -3e38, float("inf"), float("nan"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("what", choices=["write", "files", "tokenizer"])
    options.add_argument("folder", nargs="?", type=Path)
    options.add_argument("--seconds", type=float, default=300.0)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    if given.what == "write":
        write(given.folder)
        return
    import miaotui_native  # without kernels everything would be refused, or left to stock

    sys.stderr.write(f"fuzzing {miaotui_native.__file__}\n")
    if given.what == "files":
        NativeEngine().open(given.folder, 1).run(ROWS)  # the honest bundle answers
        header = json.loads((given.folder / HEADER_FILE).read_text(encoding="utf-8"))
        tensors = (given.folder / TENSORS_FILE).read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            fuzz(given, lambda draw: spoil_files(draw, header, tensors, Path(folder)))
    else:
        fuzz(given, random_tokenizer)


def fuzz(given: argparse.Namespace, case: Callable[[random.Random], str]) -> None:
    """Runs cases until the time is up; what a case gives back is counted."""
    began = said = time.monotonic()
    outcomes: dict[str, int] = {}
    number = 0
    while time.monotonic() - began < given.seconds:
        try:
            outcome = case(random.Random(f"{given.seed}-{number}"))
        except BaseException:
            sys.stderr.write(f"case {number} of seed {given.seed}:\n")
            raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        number += 1
        if time.monotonic() - said > 10:
            said = time.monotonic()
            left = given.seconds - (said - began)
            sys.stderr.write(f"{given.what}: {number} cases, {left:.0f} s left\n")
    sys.stdout.write(f"{given.what}: {number} cases, nothing found: {outcomes}\n")


def write(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import tiny_encoder
    from miaotui.techniques import Int8Static

    model = Int8Static(skip=("layers.1.",)).prepare(
        tiny_encoder.model(), tiny_encoder.calibration()
    )
    NativeEngine().build(model, None, folder)


def spoil_files(draw: random.Random, header: Any, tensors: bytes, folder: Path) -> str:
    """One bundle with something wrong in its header, its tensors, or their bytes."""
    header = copy.deepcopy(header)
    if draw.random() < 0.6:
        for _ in range(draw.randrange(1, 4)):
            spoil_json(draw, header)
    if draw.random() < 0.4:
        tensors = spoil_tensors(draw, tensors)
    if draw.random() < 0.2:
        tensors = spoil_bytes(draw, tensors)
    (folder / HEADER_FILE).write_text(json.dumps(header), encoding="utf-8")
    (folder / TENSORS_FILE).write_bytes(tensors)
    try:
        NativeEngine().open(folder, draw.choice([1, 2])).run(ROWS)
    except (BundleError, EngineFailed) as error:
        if "\n" in str(error) or not str(error):
            raise AssertionError(f"not one line: {error!r}") from error
        return "refused"
    return "answered"


def spoil_json(draw: random.Random, document: Any) -> None:
    """Changes, removes or repeats one thing somewhere in it."""
    at = document
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = draw.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and draw.random() < 0.85:
            at = at[key]
            continue
        break
    kind = draw.random()
    if kind < 0.75:
        at[key] = draw.choice(LEAVES)
    elif kind < 0.85:
        del at[key]
    elif isinstance(at, list):
        at.insert(draw.randrange(len(at) + 1), copy.deepcopy(at[key]))
    else:
        at[draw.choice(["extra", "layers.9.up", key + " "])] = copy.deepcopy(at[key])


def spoil_tensors(draw: random.Random, tensors: bytes) -> bytes:
    arrays = load(tensors)
    for _ in range(draw.randrange(1, 3)):
        name = draw.choice(list(arrays))
        array, kind = arrays[name], draw.randrange(7)
        if kind == 0:
            del arrays[name]
        elif kind == 1:
            arrays[name] = array.astype(draw.choice([np.float32, np.int8, np.float64, np.int32]))
        elif kind == 2:
            arrays[name] = np.ascontiguousarray(array.T)
        elif kind == 3:
            arrays[name] = array[: draw.randrange(len(array) + 1)].copy()
        elif kind == 4:
            arrays[name] = np.concatenate([array, array])
        elif kind == 5 and array.dtype == np.float32:
            array.reshape(-1)[:] = draw.choice(EXTREMES)
        else:
            arrays[name] = array.reshape(-1)
    return save(arrays)


def spoil_bytes(draw: random.Random, data: bytes) -> bytes:
    if draw.random() < 0.2:
        return data[: draw.randrange(len(data))]
    spoilt = bytearray(data)
    for _ in range(draw.randrange(1, 8)):
        limit = len(spoilt) if draw.random() < 0.3 else min(len(spoilt), 3000)
        spoilt[draw.randrange(limit)] = draw.randrange(256)
    return bytes(spoilt)


def random_tokenizer(draw: random.Random) -> str:
    """Texts and pairs by a WordPiece tokenizer of random pieces and settings: ours, and stock."""
    tokenizer = wordpiece(draw)
    task = TextClassification.of(
        tokenizer, ["no", "yes"], Problem.SINGLE_LABEL, draw.choice([6, 7, 12, 40, 512])
    )
    if task._native is None:
        return "left to stock"
    texts = [text(draw) for _ in range(40)]
    for some in (texts, list(zip(texts[::2], texts[1::2], strict=True))):
        if not task.encode(some).equals(task._encode_stock(some)):
            for one in some:
                if not task.encode([one]).equals(task._encode_stock([one])):
                    raise AssertionError(f"other ids for {one!r}")
            raise AssertionError("other ids, but only together")
    return "pairs too" if task._native.reads_pairs else "texts"


def wordpiece(draw: random.Random) -> Tokenizer:
    letters = draw.choice(["ab", "abcde", string.ascii_letters, "aé中 ß文ñ"])
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = {"".join(draw.choices(letters, k=draw.randrange(1, 6))) for _ in range(60)}
    words = [p if draw.random() < 0.5 else f"##{p}" for p in sorted(pieces)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(specials + words))}
    tokenizer = Tokenizer(
        models.WordPiece(
            vocabulary, unk_token="[UNK]", max_input_chars_per_word=draw.choice([1, 5, 100])
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=draw.random() < 0.8,
        handle_chinese_chars=draw.random() < 0.8,
        strip_accents=draw.choice([None, True, False]),
        lowercase=draw.random() < 0.7,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    second = draw.choice(["$B:1 [SEP]:1", "$B:0 [SEP]:0", "$B:1"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=draw.choice(["[CLS] $A [SEP]", "$A", "[CLS] [CLS] $A"]),
        pair=f"[CLS] $A [SEP] {second}",
        special_tokens=[(w, tokenizer.token_to_id(w)) for w in ("[CLS]", "[SEP]")],
    )
    if draw.random() < 0.7:
        tokenizer.add_special_tokens(specials)
    return tokenizer


def text(draw: random.Random) -> str:
    letters = draw.choice(["ab ", "abcde .,!", string.printable, "aé中 ß文ñ。\u0301\u200b🙂"])
    points = draw.choices(letters, k=draw.randrange(80))
    for _ in range(draw.choice([0, 0, 0, 1, 5])):
        point = draw.randrange(0x110000)
        if not 0xD800 <= point < 0xE000:
            points.insert(draw.randrange(len(points) + 1), chr(point))
    if draw.random() < 0.05:
        points.insert(draw.randrange(len(points) + 1), draw.choice(["[CLS]", "[SEP", "##"]))
    return "".join(points)


if __name__ == "__main__":
    main()
