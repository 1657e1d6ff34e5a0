"""Where weights of the hub would come from: this machine, or a server that is asked whether it has them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import huggingface_hub
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from vitsearch.errors import NoAnswer, WeightsError, first_line

FILES = ("model.safetensors", "pytorch_model.bin")
"""The names under which timm looks for weights in a repository, in its order."""
ELSE = "write 'weights: none' (random) or 'weights: \"file:PATH\"' into the space file"

AWAY = f"run where it does, name a mirror in HF_ENDPOINT, or {ELSE}"


@dataclass(frozen=True)
class HubWeights:
    """Weights of timm that a run downloads: one of `files` of `repository`, or for None the file at `url`."""

    backbone: str
    repository: str | None
    revision: str | None
    files: tuple[str, ...]
    url: str | None

    @property
    def where(self) -> str:
        """What is asked, for a person."""
        if self.repository is None:
            return str(self.url)
        return f"{constants.ENDPOINT}/{self.repository}"

    @property
    def server(self) -> str:
        parts = urlsplit(self.where)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def is_here(self) -> bool:
        """Whether an earlier download lies in the cache of this user."""
        if self.repository is None:
            name = os.path.basename(urlsplit(str(self.url)).path)
            return os.path.isfile(os.path.join(torch.hub.get_dir(), "checkpoints", name))
        return any(
            isinstance(huggingface_hub.try_to_load_from_cache(self.repository, file, revision=self.revision), str)
            for file in self.files
        )

    def ask(self, timeout_s: float) -> None:
        """Ask the server for the file, which is not downloaded. Raises `WeightsError` where it has none, and
        `NoAnswer`."""
        try:
            self._head(timeout_s)
        except (RepositoryNotFoundError, EntryNotFoundError) as error:
            raise WeightsError(f"the hub has none at {self.where} ({first_line(error)}); {ELSE}") from error
        except Exception as error:  # the hub's client raises the errors of its HTTP library
            raise NoAnswer(f"the hub does not answer ({first_line(error)}); {AWAY}") from error

    def _head(self, timeout_s: float) -> None:
        if self.repository is None:
            with urlopen(Request(str(self.url), method="HEAD"), timeout=timeout_s):
                return
        for file in self.files:
            url = huggingface_hub.hf_hub_url(self.repository, file, revision=self.revision)
            try:
                huggingface_hub.get_hf_file_metadata(url, timeout=timeout_s)
                return
            except EntryNotFoundError:
                if file == self.files[-1]:
                    raise


def hub_weights(backbone: str) -> HubWeights:
    """Where timm's loader would look for the weights of a model. Raises `WeightsError` where timm knows none."""
    config = timm.models.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        raise WeightsError(f"timm has no pretrained weights for {backbone}; {ELSE}")
    if not config.hf_hub_id:
        return HubWeights(backbone, None, None, (), config.url)
    repository, _, revision = config.hf_hub_id.partition("@")
    files = (config.hf_hub_filename,) if config.hf_hub_filename else FILES
    return HubWeights(backbone, repository, revision or None, files, None)
