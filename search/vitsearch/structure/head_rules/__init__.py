"""How to cut the heads of attention classes for which the generic cut does not work.

timm's forward of such a class reshapes to the width of its input, adds a bias that is no part of a layer, or has heads
in another layout. Each module here covers the attentions of a few modules of timm: `RULES` maps a class to its rule.
"""

from __future__ import annotations

from importlib import import_module

from torch import nn

from vitsearch.structure.head_rules.rule import HeadRule

THEMES = {
    "timm.layers.attention": "eva",
    "timm.layers.attention2d": "multi_query",
    "timm.layers.attention_pool": "class_tokens",
    "timm.models.beit": "beit",
    "timm.models.cait": "class_tokens",
    "timm.models.convit": "convit",
    "timm.models.crossvit": "class_tokens",
    "timm.models.davit": "davit",
    "timm.models.edgenext": "cross_covariance",
    "timm.models.efficientformer": "levit",
    "timm.models.efficientformer_v2": "efficientformer_v2",
    "timm.models.eva": "eva",
    "timm.models.fastvit": "fastvit",
    "timm.models.gcvit": "gcvit",
    "timm.models.levit": "levit",
    "timm.models.maxxvit": "relative_positions",
    "timm.models.metaformer": "plain_qkv",
    "timm.models.nextvit": "plain_qkv",
    "timm.models.pvt_v2": "reduced_keys",
    "timm.models.swin_transformer_v2": "swin_v2",
    "timm.models.swin_transformer_v2_cr": "swin_v2",
    "timm.models.tiny_vit": "levit",
    "timm.models.twins": "reduced_keys",
    "timm.models.vision_transformer_relpos": "relative_positions",
    "timm.models.volo": "volo",
    "timm.models.xcit": "cross_covariance",
    "torch.nn.modules.activation": "multihead",
}
"""The module here that has the rules for the classes of a module of timm or torch."""


def rule_for(attention: nn.Module) -> HeadRule | None:
    """The rule for exactly the class of `attention`, or for the class that it had before it was cut.

    Returns:
        None if there is no rule, also for a subclass of a class with a rule: its forward may be another one.
    """
    kind = next(cls for cls in type(attention).__mro__ if not cls.__module__.startswith(f"{__name__}."))
    theme = THEMES.get(kind.__module__)
    if theme is None:
        return None
    rules: dict[type[nn.Module], HeadRule] = import_module(f"{__name__}.{theme}").RULES
    return rules.get(kind)
