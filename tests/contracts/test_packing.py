"""A row's answer depends on nothing but the row, however it is packed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy import ndarray

from miaotui.engines import ENGINES
from miaotui.engines.base import Session
from miaotui.engines.layouts import Packed
from miaotui.errors import EngineUnavailable
from miaotui.models.model import Model
from miaotui.tasks.base import EncodedRows, joined
from tiny import ADAPTED, LAST_TOKEN, TYPED, UNKNOWN, hf_logits, random_rows, tiny_model

TOLERANCE = 1e-5
PACKED = Packed(batch=2, block_tokens=32, block_rows=4)
ENGINES_HERE = ("torch", "onnxruntime")
Opener = Callable[[str, str], Session]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Model, Path]]:
    """Each family with the folder that transformers opens too."""
    folders = {family: tmp_path_factory.mktemp(family) for family in ADAPTED}
    return {family: (tiny_model(family, folder), folder) for family, folder in folders.items()}


@pytest.fixture(scope="module")
def opened(
    models: dict[str, tuple[Model, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opener]:
    sessions: dict[tuple[str, str], Session] = {}

    def open_(name: str, family: str) -> Session:
        if (name, family) not in sessions:
            folder = tmp_path_factory.mktemp(f"{name}-{family}")
            engine = ENGINES[name](layout=PACKED)
            engine.build(models[family][0], None, folder)
            sessions[name, family] = engine.open(folder, 1)
        return sessions[name, family]

    yield open_
    for session in sessions.values():
        session.close()


def among(row: EncodedRows, others: EncodedRows) -> EncodedRows:
    """`row` first, so that its logits are the first ones."""
    return joined([row, others])


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
@pytest.mark.parametrize("family", ADAPTED)
@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_neighbours_do_not_change_a_row(
    engine: str, family: str, pairs: bool, opened: Opener
) -> None:
    session = opened(engine, family)
    row = random_rows([11], pairs, seed=7)

    answers = [
        session.run(among(row, random_rows(lengths, pairs, seed))).values.copy()[0]
        for seed, lengths in enumerate([(10, 9), (10, 9), (21,), (20,), (1, 1, 1), (3, 30, 18, 2)])
    ]

    assert max(np.abs(answer - answers[0]).max() for answer in answers) < TOLERANCE


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
@pytest.mark.parametrize("family", ADAPTED)
@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_packed_rows_are_answered_as_transformers_does(
    engine: str,
    family: str,
    pairs: bool,
    models: dict[str, tuple[Model, Path]],
    opened: Opener,
) -> None:
    rows = random_rows([5, 32, 1, 33, 96, 17, 2, 70, 9, 9], pairs)

    expected = hf_logits(models[family][1], rows, types=family in TYPED)

    np.testing.assert_allclose(opened(engine, family).run(rows).values, expected, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_a_row_longer_than_a_block_is_read_to_its_end(engine: str, opened: Opener) -> None:
    session = opened(engine, "bert")
    row = random_rows([90])
    ends_otherwise = EncodedRows(row.ids.copy(), row.starts)
    ends_otherwise.ids[-1] += 1

    first, second = session.run(joined([row, ends_otherwise])).values

    assert np.abs(first - second).max() > 1e-4


@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_results_come_in_the_callers_order(engine: str, opened: Opener) -> None:
    session = opened(engine, "bert")
    rows = random_rows([3, 40, 17, 32, 1, 64, 8, 8, 25, 33])
    order = np.random.default_rng(0).permutation(len(rows))

    shuffled = session.run(rows.select(order)).values

    np.testing.assert_allclose(shuffled, session.run(rows).values[order], atol=TOLERANCE)
    assert distinct(shuffled)


def distinct(logits: ndarray) -> bool:
    """Whether every row has its own answer, so that a wrong order would show."""
    return len(np.unique(logits.round(4), axis=0)) == len(logits)


@pytest.mark.parametrize("family", [UNKNOWN, LAST_TOKEN])
@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_a_family_without_adapter_refuses_packing_by_name(
    name: str, family: str, tmp_path: Path
) -> None:
    model = tiny_model(family, tmp_path / "hf")

    with pytest.raises(EngineUnavailable, match=f"{family} has no adapter, so it cannot be packed"):
        ENGINES[name](layout=PACKED).build(model, None, tmp_path / "engine")
