"""Which voice speaks a sentence: by what the author wrote, the book's mark of a speaker, or the kind of paragraph."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from pipeline.config import from_yaml
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Voices:
    """Voices by name, which is a speaker's, a kind of paragraph (quote, title, ...), or `narrator`; in lower case."""

    by_name: Mapping[str, str] = field(default_factory=dict)

    @property
    def narrator(self) -> str | None:
        return self.by_name.get("narrator")

    def of(self, kind: str, speaker: str | None, written: str | None) -> str | None:
        """The voice of a sentence; None is the narrator's.

        Args:
            kind: of its paragraph.
            speaker: that the book marks; without an entry, the narrator speaks.
            written: NAME of `[voice: NAME]`; without an entry, it is itself a voice.
        """
        if written:
            return self.by_name.get(written.lower(), written)
        if speaker and speaker.lower() in self.by_name:
            return self.by_name[speaker.lower()]
        return self.by_name.get(kind)


def parse_voices(name: str, content: bytes) -> Voices:
    """A YAML mapping of names to voices; raises ConfigError, naming the file."""
    values = from_yaml(content, name)
    try:
        voices = TypeAdapter(dict[str, str]).validate_python(values)
    except ValidationError as error:
        raise ConfigError(f"{name}: must have lines such as `narrator: v2/en_speaker_6`") from error
    return Voices({key.lower(): value for key, value in voices.items()})
