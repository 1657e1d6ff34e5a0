"""One folder for each runtime that files are made for.

A folder's `__init__` declares its `TARGET`: facts alone, so that reading it takes no time (`vitsearch.core.targets`
finds it by its place). The modules beside it do the work, and are named in it as "module:attribute".
"""
