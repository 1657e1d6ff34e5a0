"""The model that a measuring process measures: its file, its runtime, its options and the protocol."""

import os
from typing import Any, Dict, Mapping, NamedTuple, Sequence, Tuple

from vitsearch_agent.artifacts import model_files
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.base import Runtime, Session
from vitsearch_agent.wire.measure_protocol import MeasureProtocol


class MeasuredModel(NamedTuple):
    """A model file to measure with an available runtime; `options` are all options in effect."""

    runtime: Runtime
    version: str
    path: str
    options: Dict[str, Any]
    protocol: MeasureProtocol

    def load(self) -> Session:
        protocol = self.protocol
        return self.runtime.load(self.path, self.options, protocol.threads, protocol.batch, protocol.shapes)

    def load_streams(self) -> Sequence[Session]:
        protocol = self.protocol
        model = self.path, self.options, protocol.threads, protocol.batch, protocol.shapes
        return self.runtime.load_streams(*model, protocol.streams)

    @property
    def has_references(self) -> bool:
        return self.protocol.reference is not None and self.runtime.reference(self.options) is not None

    def load_references(self) -> Tuple[Session, ...]:
        """Load the protocol's reference models; nothing if it has none, or if nothing runs them.

        Their files are written beside the model. Raises MeasurementFailed for a reference that this version lacks.
        """
        reference = self.runtime.reference(self.options)
        if not self.has_references or reference is None:
            return ()
        # Kept out of the processes of tools.
        from vitsearch_agent.runtimes import reference_models

        return tuple(
            reference.runtime.load(path, reference.options, self.protocol.threads, 1, {})
            for path in reference_models.write(self.folder)
        )

    @property
    def model_bytes(self) -> int:
        """The size of the model's files, which is about that of its weights."""
        return sum(os.path.getsize(path) for path in model_files(self.path).values())

    @property
    def folder(self) -> str:
        return os.path.dirname(os.path.abspath(self.path))


def make_measured_model(
    runtime: Runtime, path: str, options: Mapping[str, Any], protocol: MeasureProtocol
) -> MeasuredModel:
    """Check the options and import the runtime; MeasurementFailed when the runtime is not available."""
    effective = runtime.check_options(options)
    state = runtime.available()
    if not state.available:
        raise MeasurementFailed("runtime_unavailable", str(state.reason))
    return MeasuredModel(runtime, str(state.version), path, effective, protocol)
