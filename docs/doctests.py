"""Shows the examples in docstrings as code; as plain Markdown they would be quotes and links."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1.*\S.*)*", re.M)


class Doctests(griffe.Extension):
    """Put a fence around every run of lines that starts with `>>>` and ends at an empty line."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object before it is parsed."""
        if obj.docstring:
            fence = r"\1```pycon\n\g<0>\n\1```"
            obj.docstring.value = _EXAMPLE.sub(fence, obj.docstring.value)
