"""What a model answers: a text, a pair of texts, or a text whose words are known."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """A text and the places of its words: characters from `starts[i]` to `ends[i]`, ascending."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.starts)

    def __str__(self) -> str:
        return self.text

    @property
    def words(self) -> list[str]:
        return [self.text[a:b] for a, b in zip(self.starts, self.ends, strict=True)]


Text = str | tuple[str, str] | Words
"""One text, a pair of texts, or a text with its words."""
