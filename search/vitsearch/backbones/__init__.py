"""Backbones: where a model comes from, and which family says what of it can be compressed.

A family declares what of its models can be cut, or has it found; every classifier of timm that no family claims is a
`FoundModule`.

    builtin.py      bases that ship with vitsearch
    weights.py      starting weights: their source, checks and digest
    weights_file.py reading of safetensors and PyTorch files
    tables.py       tables of positions at another resolution
    window_sizes.py windows that divide the maps
    timm_family.py  TimmFamily: what families of timm models share
    found_family.py FoundFamily: families whose structure is found; FoundModule: the rest of timm
    found_structures.py    their structures, found once and kept
    python_family.py       a network that the user's code makes; own_code.py imports it, architecture.py names it
    onnx_family.py         a network that is an ONNX file; onnx_reader.py checks the file and gives it our form
    single_network.py      what the families of the user's networks share
    examine.py             what the driver has to know of such a network, found in a process of its own
    catalogue.py           all backbones of a space, as the driver asks about them
    plain.py        timm's own attention and MLP, for declared families
    vit.py          ViT, DeiT, distilled DeiT, DeiT-III
    vit_stream.py   their residual stream, on fewer channels
    levit.py        LeViT, with linear layers or convolutions
    swin.py         Swin, Swin-S3
    swinv2.py       Swin V2: cosine attention, continuous positions
    mobilevit.py    MobileViT, v1 and v2
    efficientvit_mit.py    EfficientViT of MIT: multi-scale linear attention
    efficientvit_msra.py   EfficientViT of MSRA: cascaded group attention
    tiny_vit.py     TinyViT
    square_windows.py      what these two families of square windows share
    efficientformer_v2.py  EfficientFormerV2
    fastvit.py      FastViT: branches merged when deployed
    repvit.py       RepViT: likewise, convolutions only

Importing this package imports no torch; looking up a name does. Other packages add families through the entry-point
group `vitsearch.backbones` (`name = "module:Class"`). `vitsearch.models.backbone.Backbone` is the protocol,
`vitsearch.testing.families.BackboneTestCase` its conformance test.
"""

from __future__ import annotations

import difflib
import fnmatch
from functools import cache
from typing import TYPE_CHECKING, Any

from vitsearch.backbones.builtin import BUILTIN
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Network, Networks, PythonNetwork
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.errors import UnknownName
from vitsearch.models.backbone import Backbone, BlockUnits, Built, ModelSpec
from vitsearch.registry import Registry

if TYPE_CHECKING:
    from vitsearch.structure.levels import Levels

__all__ = [
    "FAMILIES",
    "Backbone",
    "BlockUnits",
    "Built",
    "ModelSpec",
    "find",
    "found_levels",
    "licence",
    "matching",
    "native_resolution",
    "own_window",
    "preprocessing",
    "starting_digest",
    "supports",
    "windows",
]

FAMILIES: Registry[type[Backbone]] = Registry(
    "backbone family",
    {
        "efficientformer_v2": "vitsearch.backbones.efficientformer_v2:EfficientFormerV2Family",
        "efficientvit_mit": "vitsearch.backbones.efficientvit_mit:EfficientViTMITFamily",
        "efficientvit_msra": "vitsearch.backbones.efficientvit_msra:EfficientViTMSRAFamily",
        "fastvit": "vitsearch.backbones.fastvit:FastViTFamily",
        "levit": "vitsearch.backbones.levit:LevitFamily",
        "mobilevit": "vitsearch.backbones.mobilevit:MobileViTFamily",
        "repvit": "vitsearch.backbones.repvit:RepViTFamily",
        "swin": "vitsearch.backbones.swin:SwinFamily",
        "swinv2": "vitsearch.backbones.swinv2:SwinV2Family",
        "tiny_vit": "vitsearch.backbones.tiny_vit:TinyViTFamily",
        "vit": "vitsearch.backbones.vit:ViTFamily",
    },
    "vitsearch.backbones",
)
NEAR_NAMES = 8


@cache
def find(name: str, networks: Networks = ()) -> Backbone:
    """Find the family of a backbone.

    Args:
        name: Of timm, of vitsearch, or of one of the networks.
        networks: Those that the user brings. Looking one of them up imports no code; building it does.

    Returns:
        The family.

    Raises:
        UnknownName: There is none; with the nearest names.
    """
    for network in networks:
        if network.name == name:
            return _family_of(network)
    from vitsearch.backbones.found_family import FoundModule, module_of  # torch: for names, not for this package

    for family in (FAMILIES.get(each)() for each in FAMILIES.names()):
        if family.claims(name):
            return family
    module = module_of(name)
    if module is not None:
        return FoundModule(module)
    near = difflib.get_close_matches(name.partition(".")[0], all_names(), n=NEAR_NAMES, cutoff=0.4)
    raise UnknownName("backbone of timm or of vitsearch", name, near or BUILTIN)


def _family_of(network: Network) -> Backbone:
    # torch: for networks of the user's own
    if isinstance(network, PythonNetwork):
        from vitsearch.backbones.python_family import PythonFamily

        return PythonFamily(network)
    from vitsearch.backbones.onnx_family import OnnxFamily

    return OnnxFamily(network)


def all_names() -> tuple[str, ...]:
    """All names of backbones, without tags: those that ship with vitsearch, of timm, and of other packages."""
    import timm  # torch: only for a search among names

    declared = [name for family in FAMILIES.names() for name in FAMILIES.get(family)().variants()]
    return tuple(sorted({*BUILTIN, *declared, *timm.list_models()}))


def matching(glob: str, weights: str | None = None) -> tuple[str, ...]:
    """List the models that match a glob.

    Args:
        glob: A name in which `*`, `?` and `[...]` stand for what they do in a shell; with a dot it is matched with the
            names of weights, such as `deit_tiny_*.fb_in1k`.
        weights: Starting weights (default: those that come with vitsearch, else those of the hub).

    Returns:
        The names that `find` accepts and that have such weights, sorted.

    Raises:
        UnknownName: There are none; with the nearest names.
    """
    import timm  # torch: only for a file with a glob

    names = [*timm.list_models(glob, include_tags="." in glob), *fnmatch.filter(BUILTIN, glob)]
    if matches := tuple(sorted(name for name in {*names} if _has(name, weights))):
        return matches
    written = "".join(sign for sign in glob.partition(".")[0] if sign not in "*?[]")
    near = difflib.get_close_matches(written, [*timm.list_models(), *BUILTIN], n=NEAR_NAMES, cutoff=0.4)
    raise UnknownName("backbone that can be built", glob, [name for name in near if _has(name, weights)] or BUILTIN)


def _has(name: str, weights: str | None) -> bool:
    """Whether a model can be built with weights of a kind; whether a file fits is judged where it is read."""
    try:
        family = find(name)
    except UnknownName:
        return False
    kind = weights or ("builtin" if name in BUILTIN else "hub")
    return kind not in ("builtin", "hub") or family.supports(name, "weights", kind) is None


def supports(name: str, knob: str, value: Any) -> str | None:
    """`None` if `name` can be built with `knob` at `value`, else the reason in one sentence."""
    return find(name).supports(name, knob, value)


def native_resolution(name: str) -> ImageSize:
    """The size of the images that the weights of `name` were trained on."""
    return find(name).native_resolution(name)


def found_levels(name: str) -> Levels | None:
    """What of a model was found that can be cut; None for a model of a declared family."""
    from vitsearch.backbones.found_family import FoundFamily  # torch: only for a person who asks

    family = find(name)
    return family.levels(name) if isinstance(family, FoundFamily) else None


def windows(name: str, resolution: ImageSize) -> tuple[int, ...]:
    """Sides of windows, in tokens, that `name` can be built with at `resolution`; empty without windows."""
    return find(name).windows(name, resolution)


def own_window(name: str, resolution: ImageSize) -> int | None:
    """The default window of `name` at `resolution`; `None` if it is not one of `windows`."""
    return find(name).own_window(name, resolution)


def starting_digest(spec: ModelSpec, architecture: str = "") -> str:
    """Names the weights that `spec` starts from; see `vitsearch.backbones.weights.digest_of`."""
    from vitsearch.backbones.weights import digest_of  # torch: only for a run that resolves plans

    return digest_of(spec, architecture)


def preprocessing(name: str, weights: str) -> Preprocessing | None:
    """How the starting weights of `name` read images; None for random weights, which read them as the data says."""
    from vitsearch.backbones.weights import preprocessing_of  # torch: only for a run that resolves plans

    return preprocessing_of(name, weights)


def licence(name: str, weights: str) -> str | None:
    """The licence of the starting weights of `name`, where it is known."""
    if weights == "builtin":
        return BUILTIN[name].licence()
    if weights != "hub":
        return None  # the user's own file, or no weights at all
    import timm  # torch: only for a bundle

    config = timm.models.get_pretrained_cfg(name)
    return None if config is None else config.license or None
