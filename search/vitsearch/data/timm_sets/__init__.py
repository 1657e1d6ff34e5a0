"""Data sets that timm reads: .tar files, torch/, hfds/ and wds/."""
