from __future__ import annotations

from vitsearch.ship.card import escaped


def test_text_from_outside_is_no_markdown():
    assert escaped("a|b [x](y) <i> `c`\nd") == r"a\|b \[x\](y) \<i\> \`c\`\\nd"
