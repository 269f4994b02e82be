"""Native WordPiece gives the stock tokenizer's ids, whatever the text."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from demand import need_engine
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification
from miaotui.tasks.wordpiece import NativeWordPiece, native_wordpiece
from tiny import tiny_tokenizer

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz      .,;!?'-",
    'ABC xyz 0123456789 #@[]()<>_^`{|}~\\"$%&*+/=:',
    "éèêëàâäçñöüßøåæœÉÀÇŠžİıΣςσΑάЁёЙй ﬁﬂ",
    "这部电影很好看剧情拖沓演员也不行，。！？「」　",
    "ひらがなカタカナーｶﾞ한국어각각ไทยहिन्दी",
    "🙂🎬👩‍👩‍👧🇨🇳\u200b\u200d\ufe0f\u00ad\u2028\u2029\u0085",
    "\u0000\u0001\u007f\t\n\r\x0b\x0c\ufffd\ufeff\ue000\uffff\U0010ffff",
    "e\u0301a\u0308\u0327\u302e\u302f\u0591\u05b0\u0e38\u0e48",
)


def random_text(draw: random.Random) -> str:
    if draw.random() < 0.05:
        points = [draw.randrange(0x110000) for _ in range(draw.randrange(1, 20))]
        return "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
    kinds = draw.sample(ALPHABETS, draw.randrange(1, 4))
    letters = "".join(kinds)
    text = "".join(draw.choice(letters) for _ in range(draw.randrange(120)))
    return text + draw.choice(["", "", "", "[CLS]", " [UNK] ", "x" * 101, "##a"])


def task_of(tokenizer: Tokenizer, most: int = 40) -> TextClassification:
    return TextClassification.of(tokenizer, ["no", "yes"], Problem.SINGLE_LABEL, most)


@pytest.fixture(params=["english", "cased", "accents"])
def task(request: pytest.FixtureRequest) -> TextClassification:
    need_engine("native")
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[UNK]", "[PAD]"])
    tokenizer.normalizer = {
        "english": normalizers.BertNormalizer(),
        "cased": normalizers.BertNormalizer(lowercase=False),
        "accents": normalizers.BertNormalizer(strip_accents=False, handle_chinese_chars=False),
    }[request.param]
    return task_of(tokenizer)


def test_ids_are_the_stock_tokenizers(task: TextClassification) -> None:
    draw = random.Random(0)
    assert isinstance(task._native, NativeWordPiece)
    for _ in range(40):
        texts = [random_text(draw) for _ in range(200)]
        ours, theirs = task.encode(texts), task._encode_stock(texts)
        wrong = [
            text for i, text in enumerate(texts) if not ours.select([i]).equals(theirs.select([i]))
        ]
        assert wrong == []
        assert ours.equals(theirs)


def test_pairs_have_the_stock_tokenizers_ids_and_types(task: TextClassification) -> None:
    """Truncated ones too: any two lengths around what there is room for."""
    draw = random.Random(2)
    assert task._native is not None
    assert task._native.reads_pairs
    random_pairs = [(random_text(draw), random_text(draw)) for _ in range(2000)]
    lengths = [("a " * n, "b " * m) for n in range(0, 50, 3) for m in range(0, 50, 3)]
    for pairs in (random_pairs, lengths):
        ours, theirs = task.encode(pairs), task._encode_stock(pairs)
        wrong = [
            pair for i, pair in enumerate(pairs) if not ours.select([i]).equals(theirs.select([i]))
        ]
        assert wrong == []
        assert ours.equals(theirs)


def test_texts_among_pairs_and_nothing(task: TextClassification) -> None:
    mixed = [("a film", "the cast"), "nothing", ("", "happens")]
    assert task.encode(mixed).equals(task._encode_stock(mixed))
    assert len(task.encode([])) == 0


def test_pairs_without_types() -> None:
    need_engine("native")
    task = task_of(tiny_tokenizer(types=False))
    pairs = [("a film", "the cast"), ("nothing " * 60, "happens"), ("", "")]

    assert task._native is not None
    assert task._native.reads_pairs
    assert task.encode(pairs).equals(task._encode_stock(pairs))
    assert task.encode(pairs).type_ids is None


def test_pairs_of_another_build_go_to_the_stock_tokenizer() -> None:
    need_engine("native")
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B:1", special_tokens=[("[CLS]", 2)]
    )
    task = task_of(tokenizer)
    pairs = [("a film", "the cast"), ("nothing", "happens")]

    assert task._native is not None
    assert not task._native.reads_pairs
    assert task.encode(pairs).equals(task._encode_stock(pairs))


def test_text_that_is_no_unicode_fails_as_the_stock_tokenizer_does(
    task: TextClassification,
) -> None:
    for text in ("ab\ud800c", ("ab", "\ud800c")):
        for encode in (task._encode_stock, task.encode):
            with pytest.raises(TypeError, match="Text(Encode)?Input"):
                encode([text])


def test_more_code_points_than_are_kept(
    task: TextClassification, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miaotui.tasks.wordpiece._MOST_POINTS", 30)
    draw = random.Random(1)
    texts = [random_text(draw) for _ in range(300)]
    for text in texts:
        assert task.encode([text]).equals(task._encode_stock([text]))


def word_level(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))


def other_normalizer(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return tokenizer


def other_words(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def other_types(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:1 $A:1", special_tokens=[("[CLS]", 2)]
    )
    return tokenizer


def normalized_token(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_tokens(["film noir"])
    return tokenizer


@pytest.mark.parametrize(
    "change", [word_level, other_normalizer, other_words, other_types, normalized_token]
)
def test_tokenizers_of_another_kind_stay_as_they_are(
    change: Callable[[Tokenizer], Tokenizer],
) -> None:
    need_engine("native")
    tokenizer = change(tiny_tokenizer())
    tokenizer.enable_truncation(20)
    task = TextClassification(tokenizer, ("no", "yes"), Problem.SINGLE_LABEL, 20)

    assert native_wordpiece(tokenizer, task._encode_stock) is None
    texts = ["a film noir", "A Film"]
    assert np.array_equal(task.encode(texts).ids, task._encode_stock(texts).ids)
