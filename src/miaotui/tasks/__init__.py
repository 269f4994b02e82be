"""Tasks by name. Importing this imports no torch."""

from miaotui.errors import RecipeError
from miaotui.tasks.task import Task
from miaotui.tasks.text_classification import TextClassification
from miaotui.tasks.token_classification import TokenClassification

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (TextClassification, TokenClassification)
}
DEFAULT_TASK: type[Task] = TextClassification
"""Where neither model, rows nor user say."""


def task_named(name: str) -> type[Task]:
    """A task by its name or an alias; a RecipeError lists them all."""
    for task in TASKS.values():
        if name in (task.name, *task.aliases):
            return task
    raise RecipeError(f"there is no task {name}; tasks: {', '.join(TASKS)}")


__all__ = ["DEFAULT_TASK", "TASKS", "Task", "task_named"]
