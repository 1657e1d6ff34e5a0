"""Data sets that timm reads: torch/, hfds/ and wds/."""
