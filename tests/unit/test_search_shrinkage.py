"""What a trial is believed to lose."""

import pytest

from miaotui.search.shrinkage import LOST_OF_CHANGED, STRAY_OF_CHANGED, believed


def test_on_few_rows_it_is_what_changed_answers_usually_cost() -> None:
    mean, error = believed(-0.02, error=1.0, changed=0.1)
    assert mean == pytest.approx(LOST_OF_CHANGED * 0.1, abs=1e-4)
    assert error == pytest.approx(STRAY_OF_CHANGED * 0.1, rel=1e-3)


def test_on_many_rows_it_is_what_was_measured() -> None:
    mean, error = believed(0.03, error=1e-5, changed=0.1)
    assert mean == pytest.approx(0.03, abs=1e-5)
    assert error == pytest.approx(1e-5, rel=1e-3)


def test_the_luckier_of_two_that_change_as_much_is_believed_less() -> None:
    """Both are drawn together, and keep their order."""
    lucky, _ = believed(-0.01, error=0.008, changed=0.06)
    plain, _ = believed(0.01, error=0.008, changed=0.06)
    assert -0.01 < lucky < plain < 0.01 + 1e-9
    assert plain - lucky < 0.02


def test_no_loss_exceeds_what_changed() -> None:
    assert believed(0.02, error=0.001, changed=0.005)[0] <= 0.005
    assert believed(0.0, error=0.002, changed=0.0) == (0.0, 0.0)


def test_a_drop_without_any_error_stands() -> None:
    assert believed(0.01, error=0.0, changed=0.1) == (0.01, 0.0)
