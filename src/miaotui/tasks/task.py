"""What a model is for: rows to targets, texts to token ids, outputs to answers.

Everything else in the package knows a task by what is declared here: it names its loss and its
confidence, and brings its metrics along. Nothing here imports torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

from jaxtyping import Bool
from numpy import ndarray
from tokenizers import Tokenizer

from miaotui.data.columns import ANY_COLUMNS, Columns
from miaotui.data.label_cells import Label
from miaotui.data.rows import Rows
from miaotui.tasks.base import EncodedRows, Text
from miaotui.tasks.metrics import Metric
from miaotui.tasks.outputs import Outputs, Targets

LossName = Literal["cross-entropy", "binary-cross-entropy", "squared-error"]
"""Of one readout against its target; in `models/loss.py`."""
ConfidenceName = Literal["margin", "nearest-decision", "least-margin", "expected-error"]
"""How sure a row's outputs are; in `confidence.py`."""
SMALLEST_TRAINABLE = 50


class Answer(Protocol):
    """What a model says of one input. `truncated`: only its beginning was read."""

    @property
    def truncated(self) -> bool: ...

    def as_json(self) -> dict[str, Any]:
        """What `predict` prints of it."""
        ...


@dataclass(frozen=True)
class Task(ABC):
    """Frozen settings of one model's task; safe to share between threads."""

    tokenizer: Tokenizer
    labels: tuple[str, ...]
    max_tokens: int

    name: ClassVar[str]
    """As transformers' pipelines name it."""
    aliases: ClassVar[tuple[str, ...]] = ()
    architecture: ClassVar[str]
    """How transformers' classes for it end: BertFor..., AutoModelFor..."""
    reads_tokens: ClassVar[bool]
    """Whether a model is read at the tokens that `EncodedRows.readouts` names, or once a row."""

    @property
    def kind(self) -> str:
        """What must be the same of two models for their answers to be compared."""
        return self.name

    # --- from rows and models

    @classmethod
    @abstractmethod
    def read_rows(cls, path: Path, columns: Columns = ANY_COLUMNS, labelled: bool = True) -> Rows:
        """The rows of a file; what cannot be used as it is is a DataError."""

    @classmethod
    @abstractmethod
    def suits(cls, path: Path) -> bool:
        """Whether the file's form leaves no doubt that its rows are of this task."""

    @classmethod
    @abstractmethod
    def of_rows(cls, tokenizer: Tokenizer, rows: Rows, max_tokens: int) -> Self:
        """The task of a model that is yet to be trained on these rows."""

    @classmethod
    @abstractmethod
    def of_model(cls, tokenizer: Tokenizer, config: Any, max_tokens: int) -> Self:
        """The task of a trained transformers model, by its config."""

    @classmethod
    @abstractmethod
    def of_facts(cls, tokenizer: Tokenizer, facts: Mapping[str, Any]) -> Self:
        """What `facts` told; a KeyError, TypeError or ValueError where something is missing."""

    @classmethod
    @abstractmethod
    def read_answer(cls, told: Mapping[str, Any]) -> Answer:
        """An answer that went through JSON as `dataclasses.asdict` gives it."""

    def facts(self) -> dict[str, Any]:
        """All but the tokenizer, for `task.json`."""
        return {"task": self.name, "labels": list(self.labels), "max_tokens": self.max_tokens}

    def model_settings(self) -> dict[str, Any]:
        """What a transformers config says of this task."""
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
        }

    # --- inputs and outputs

    @abstractmethod
    def encode(self, texts: Sequence[Text]) -> EncodedRows:
        """Tokenizes; no row is longer than the model's maximum."""

    @abstractmethod
    def targets(self, rows: Rows, encoded: EncodedRows) -> Targets:
        """The rows' labels as targets of `encode(rows.texts)`; unknown labels are a DataError."""

    @abstractmethod
    def labels_of(self, rows: EncodedRows, outputs: Outputs) -> Sequence[Label]:
        """What each input would be labelled if its answer were right; judged by the metric that is
        named `agreement`."""

    @abstractmethod
    def answers(
        self, texts: Sequence[Text], rows: EncodedRows, outputs: Outputs
    ) -> Sequence[Answer]:
        """One answer a text. `rows` are the texts encoded, `outputs` what the model gave."""

    def detailed(self) -> Self:
        """The same task, whose answers leave nothing out."""
        return self

    def readable(self, rows: EncodedRows) -> EncodedRows:
        """Rows that no text was behind, with what this task reads out of them."""
        return rows

    # --- training

    @property
    @abstractmethod
    def loss(self) -> LossName: ...

    @abstractmethod
    def check_trainable(self, rows: Rows) -> None:
        """Refuses rows that nothing can be trained or judged on."""

    @abstractmethod
    def progress(self, outputs: Outputs, targets: Targets) -> float:
        """The number that early stopping watches; larger is better."""

    def classes_of(self, label: Label) -> Sequence[str]:
        """What a row's label adds to the counts of classes; nothing where there are no classes."""
        return tuple(map(str, label)) if isinstance(label, tuple) else (str(label),)

    # --- judging

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Those that suit it, its default first."""

    def metric_for(self, rows: Rows) -> tuple[Metric, str | None]:
        """What to judge these rows by where nobody says, and why if it is not the default."""
        return self.metrics[0], None

    @property
    def class_metrics(self) -> Mapping[str, Metric]:
        """For each class what it is judged by alone; none where answers have no class."""
        return {}

    @property
    def confidence(self) -> ConfidenceName | None:
        """What a cascade goes by; None: no cascade."""
        return None

    @abstractmethod
    def same_answers(self, a: Outputs, b: Outputs) -> Bool[ndarray, " rows"]:
        """Row by row whether both answer alike; one that is not finite equals no other."""

    def divergence(self, a: Outputs, b: Outputs) -> float:
        """How far apart two models' answers are, from 0."""
        return float(1 - self.same_answers(a, b).mean())
