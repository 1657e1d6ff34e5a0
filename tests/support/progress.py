"""A progress view that keeps what it is given."""

from dataclasses import dataclass, field

from vitsearch.pipeline.progress import Silent


@dataclass
class Lines(Silent):
    said: list[str] = field(default_factory=list)
    waits_for: list[str] = field(default_factory=list)
    does: list[dict[str, str]] = field(default_factory=list)

    def note(self, text):
        self.said.append(text)

    def waits(self, text):
        if text is not None:
            self.waits_for.append(text)

    def doing(self, stages):
        self.does.append(stages)
