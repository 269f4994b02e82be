"""Every error a user can cause. The CLI prints one in one line and exits with status 2."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def first_line(error: BaseException) -> str:
    """What an error of a library says first, past where in its code it says it; its kind where it
    says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception from")]
    return (told or lines or [type(error).__name__])[0]


def first_fault(error: "ValidationError") -> str:
    """The first field that pydantic found wrong, and what is wrong with it."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'top level'}: {fault['msg']}"


class MiaotuiError(Exception):
    """Base of all errors raised on purpose: says what happened, what was expected, what to do."""


class DataError(MiaotuiError):
    """The rows cannot be used as they are."""


class LabelsMissing(DataError):  # noqa: N818  (the name reads as the sentence it is)
    """The rows can be read, and have no labels."""


class ModelError(MiaotuiError):
    """The model cannot be loaded, or an operation does not fit its family or shape."""


class RecipeError(MiaotuiError):
    """A recipe, technique or setting is not valid."""


class EngineUnavailable(MiaotuiError):  # noqa: N818  (the name reads as the sentence it is)
    """An engine, precision or layout cannot run on this machine."""


class EngineFailed(MiaotuiError):  # noqa: N818
    """An engine that is available could not lower this model (an unknown operator, say)."""


class BudgetError(MiaotuiError):
    """A limit given by the user is not a sensible one."""


class BundleError(MiaotuiError):
    """A bundle is damaged, incomplete or of a newer format."""


class OutputError(MiaotuiError):
    """The place to write to cannot be written, or holds something else."""
