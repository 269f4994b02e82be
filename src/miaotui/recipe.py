"""What to do to a model, in order, and the engine that runs the outcome. YAML in and out."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)
from typing_extensions import TypeIs

from miaotui.engines import ENGINES, Engine
from miaotui.errors import RecipeError
from miaotui.models.precision import Kind
from miaotui.techniques import TECHNIQUES, Technique
from miaotui.training.settings import Distillation


def _step_kind(step: Any) -> str | None:
    """A technique is told by its `name`, a recovery by its `kind`."""
    given = step if isinstance(step, dict) else getattr(step, "__dict__", {})
    if "name" in given:
        return "technique"
    return "recovery" if "kind" in given else None


RECOVERIES = {"distil": Distillation}
Step = Annotated[
    Annotated[Technique, Tag("technique")] | Annotated[Distillation, Tag("recovery")],
    Discriminator(_step_kind),
]


def is_training(step: Step) -> TypeIs[Distillation]:
    """Whether a step trains; any other is a technique."""
    return step.trains


def _check_trained(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    shaping = [step for step in steps if step.quantizes is None]
    for i, step in enumerate(shaping, 1):
        trained = i < len(shaping) and is_training(shaping[i])
        if not is_training(step) and step.acts_in_training and not trained:
            raise ValueError(f"{step.title} acts in a training; put a distil step right after it")
    return steps


Steps = Annotated[tuple[Step, ...], AfterValidator(_check_trained)]
_FLOATS = (Kind.FP32, Kind.BF16)
_MOST_EARLIER_STAGES = 2


class CascadeStage(BaseModel):
    """A smaller model asked first, which answers the share of the rows that reach it of which it is
    surest. The confidence that this takes is found on the validation rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: float = Field(gt=0, lt=1)
    steps: Steps = ()
    engine: Engine

    @property
    def recipe(self) -> "Recipe":
        """The stage as a recipe of its own."""
        return Recipe(steps=self.steps, engine=self.engine)


class Recipe(BaseModel):
    """Frozen intent: techniques and recoveries in order, then the engine with its settings; with
    `stages` in front, a cascade whose last stage this is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Steps = ()
    engine: Engine
    stages: tuple[CascadeStage, ...] = Field(default=(), max_length=_MOST_EARLIER_STAGES)

    @property
    def key(self) -> str:
        """A short hash of everything in it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """The recipe in a few words, for progress and tables."""
        steps = [step.title for step in self.steps]
        own = " + ".join([*steps, self.engine.title])
        first = "".join(f"[{s.recipe.title}] for {s.answers:.0%}, then " for s in self.stages)
        return f"{first}[{own}]" if first else own

    @property
    def last(self) -> "Recipe":
        """The last stage alone."""
        return self.model_copy(update={"stages": ()})

    @property
    def each_stage(self) -> tuple["Recipe", ...]:
        """Every stage as a recipe of its own, as they are asked."""
        return (*(stage.recipe for stage in self.stages), self.last)

    @property
    def is_float(self) -> bool:
        """Whether it is the model as it was, computed in fp32 or bf16."""
        return not self.stages and all(step.quantizes in _FLOATS for step in self.steps)

    @property
    def shaping(self) -> tuple[Step, ...]:
        """The steps that change weights or shapes: all but quantization."""
        return tuple(step for step in self.steps if step.quantizes is None)

    @property
    def quantizing(self) -> tuple[Technique, ...]:
        """The steps that choose a precision; they come last, whatever their place."""
        return tuple(s for s in self.steps if not is_training(s) and s.quantizes is not None)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_recipe(path: Path) -> Recipe:
    """A recipe file; a wrong one is a RecipeError that names the field and what is valid."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    # A single first stage, or none, as recipes were written before there were three stages.
    if isinstance(content, dict) and content.pop("first", None) is not None:
        raise RecipeError(f"recipe {path}: `first` became `stages`, a list of earlier stages")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"recipe {path}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    location = [part for part in first["loc"] if part not in ("technique", "recovery")]
    where = ".".join(str(part) for part in location) or "top level"
    if first["type"] == "extra_forbidden":
        valid = _owner(first["loc"][:-1]).model_fields
        return f"unknown field {where}; valid ones: {', '.join(valid)}"
    if first["type"].startswith("union_tag"):
        names = [_NAMES[str(part)] for part in first["loc"] if str(part) in _NAMES]
        return f"{where}: unknown name; {names[-1]}"
    return f"{where}: {first['msg']}"


_NAMES = {
    "steps": f"techniques: {', '.join(TECHNIQUES)}; recovery: {', '.join(RECOVERIES)}",
    "engine": f"engines: {', '.join(ENGINES)}",
    "layout": "layouts: padded, bucketed, packed",
}


def _owner(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model whose field the place in a recipe is."""
    owners: dict[str, type[BaseModel]] = {"stages": CascadeStage, "recovery": Distillation}
    owners |= {**ENGINES, **TECHNIQUES}
    owner: type[BaseModel] = Recipe
    for part in location:
        owner = owners.get(str(part), owner)
    return owner
