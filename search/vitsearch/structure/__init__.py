"""The structure of a model: what of it can be cut, found by tracing one forward and proved on numbers.

    values.py      Structure and its parts, as plain values with dotted names
    trace.py       one forward: the order of the modules, their inputs and outputs
    widths.py      hidden channels between two layers: candidates, mask, cut
    heads.py       attention heads: candidates, mask, cut
    head_rules/    attentions whose own forward cannot have fewer heads
    residual.py    modules that add to their input, and where a layer's output is added
    proof.py       a candidate is accepted if the cut module computes what the masked one does
    find.py        all of it together: the structure of a model

Nothing here knows a family, and no table of types decides: a candidate that is wrong fails the proof and is refused
with the measured reason. docs/add_a_family.md says when a family is still needed.
"""
