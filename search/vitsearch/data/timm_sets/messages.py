"""Errors of timm and the libraries behind it, reported as `DataError`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vitsearch.core.data_sources import kind_of
from vitsearch.data.pixels import UNREADABLE
from vitsearch.data.spec import DataSpec
from vitsearch.errors import DataError

_PACKAGES = {"hfds": "datasets", "wds": "webdataset"}
_RAISED = (*UNREADABLE, KeyError, TypeError, AssertionError, RuntimeError, ImportError, IndexError)


@contextmanager
def raises_data_error(spec: DataSpec, where: str) -> Iterator[None]:
    """Raise `DataError` for an error of timm or the libraries behind it in the block.

    Also raised when the library that `spec` needs is not installed.
    """
    kind = kind_of(spec.source)
    package = _PACKAGES.get(kind)
    if package is not None and importlib.util.find_spec(package) is None:
        raise DataError(f"source {spec.source} needs the package {package}; run: pip install 'vitsearch[{kind}]'")
    expected: tuple[type[Exception], ...] = _RAISED
    with ExitStack() as closing:
        if kind == "hfds":
            from datasets.exceptions import DatasetsError  # here: an optional package that takes seconds to import

            closing.enter_context(_quiet_hub(spec.download))
            expected = (*_RAISED, DatasetsError)
        try:
            yield
        except expected as error:
            raise DataError(f"{where}: {_explained(spec, error)}") from error


def _explained(spec: DataSpec, error: Exception) -> str:
    text = str(error).partition("\n")[0] or f"timm raised {type(error).__name__} without a message"
    if "download=True" in text:
        root = Path(spec.root or "").expanduser()
        return f"the set is not found in {root}, or is damaged; put it there, or set data.download: true to fetch it"
    if "save_to_disk" in text:
        return "the folder was written by save_to_disk, which timm cannot read; write it with to_parquet instead"
    if isinstance(error, ConnectionError) and not spec.download:
        return (
            "the set is not in the cache of Hugging Face on this machine, and data.download is false; "
            f"set data.download: true to fetch it, or give a folder (hfds/./FOLDER) ({text})"
        )
    if isinstance(error, ConnectionError):
        return f"the hub cannot be reached, and the set is not in the cache on this machine ({text})"
    if isinstance(error, KeyError):
        return f"the description of the set has no {text}"
    if isinstance(error, ModuleNotFoundError):
        return f"this source needs the package {error.name}; run: pip install {error.name}"
    return text


@contextmanager
def _quiet_hub(download: bool) -> Iterator[None]:
    """Hide progress bars; without `download`, also keep the libraries off the network, as HF_HUB_OFFLINE=1 does."""
    import datasets  # here: optional packages that take seconds to import
    from huggingface_hub import constants

    settings = (constants, datasets.config)
    before = [setting.HF_HUB_OFFLINE for setting in settings]
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        for setting, offline in zip(settings, before, strict=True):
            setting.HF_HUB_OFFLINE = offline or not download
        yield
    finally:
        for setting, offline in zip(settings, before, strict=True):
            setting.HF_HUB_OFFLINE = offline
        if shown:
            datasets.enable_progress_bars()
