"""Whether the hub answers from which timm downloads weights."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from vitsearch.devices.survey import DevicePart

HUB = "https://huggingface.co"
FILE = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k/resolve/main/config.json"
"""A small file of a model that timm knows; it is not downloaded."""
ELSE = "write 'weights: none' or 'weights: \"file:PATH\"'"
ANSWER_S = 4.0
"""Longest wait, looking for the host included."""


def weights_hub(environment: Mapping[str, str], timeout_s: float = ANSWER_S) -> DevicePart:
    """Ask for one file of the hub, or of the mirror that HF_ENDPOINT names."""
    hub = environment.get("HF_ENDPOINT") or HUB
    name = urlsplit(hub).hostname or hub
    reasons: list[str] = []
    asking = threading.Thread(target=lambda: reasons.append(_reason(f"{hub}/{FILE}", timeout_s)), daemon=True)
    asking.start()  # a thread, because nothing bounds the time in which a name server answers
    asking.join(timeout_s)
    reason = reasons[0] if reasons else f"no answer within {timeout_s:.0f} s"
    if not reason:
        return DevicePart(name, True, "answers: weights can be downloaded")
    return DevicePart(
        name, False, f"{reason}: without weights in the cache, write 'weights: none' or 'weights: \"file:PATH\"'"
    )


def _reason(url: str, timeout_s: float) -> str:
    """Why the file cannot be had; empty when it can."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=timeout_s):
            return ""
    except HTTPError as error:
        return f"answers {error.code} {error.reason}"
    except URLError as error:
        return f"does not answer ({error.reason})"
    except (OSError, ValueError) as error:
        return f"does not answer ({error})"
