"""Print the page ``docs/json.md``."""

from vitsearch.cli.json_forms.page import page

print(page(), end="")
