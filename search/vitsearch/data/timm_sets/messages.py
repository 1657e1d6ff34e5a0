"""What timm and the libraries behind it raise, in words of our own."""

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
def told(spec: DataSpec, where: str) -> Iterator[None]:
    """Turns what timm and the libraries behind it raise into one :class:`DataError`."""
    kind = kind_of(spec.source)
    package = _PACKAGES.get(kind)
    if package is not None and importlib.util.find_spec(package) is None:
        raise DataError(f"source {spec.source} needs the package {package}: pip install 'vitsearch[{kind}]'")
    expected: tuple[type[Exception], ...] = _RAISED
    with ExitStack() as closing:
        if kind == "hfds":
            from datasets.exceptions import DatasetsError

            closing.enter_context(_quiet_hub(spec.download))
            expected = (*_RAISED, DatasetsError)
        try:
            yield
        except expected as error:
            raise DataError(f"{where}: {_explained(spec, error)}") from error


def _explained(spec: DataSpec, error: Exception) -> str:
    text = str(error).partition("\n")[0] or f"timm refuses it without a reason ({type(error).__name__})"
    if "download=True" in text:
        root = Path(spec.root or "").expanduser()
        return f"not found in {root}, or damaged; put it there, or set data.download: true to fetch it"
    if "save_to_disk" in text:
        return "the folder was written by save_to_disk, which timm cannot read; write it with to_parquet instead"
    if isinstance(error, ConnectionError) and not spec.download:
        return (
            "not in the cache of Hugging Face data sets on this machine, and data.download is false; "
            f"set it to true to fetch it, or give a folder (hfds/./FOLDER) ({text})"
        )
    if isinstance(error, ConnectionError):
        return f"the hub cannot be reached, and the set is not in the cache on this machine ({text})"
    if isinstance(error, KeyError):
        return f"{text} is missing in what describes the set"
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name}: pip install {error.name}"
    return text


@contextmanager
def _quiet_hub(download: bool) -> Iterator[None]:
    """Without ``download`` the libraries are kept from the network, as HF_HUB_OFFLINE=1 does."""
    import datasets
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
