"""Hooks of the site: links to files outside docs/, and where names of tests may break."""

from __future__ import annotations

import posixpath
import re
from typing import Any

TEST = re.compile(r"<code>(tests/[^<]+)</code>")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files outside docs/, which the site does not have.

    They lead to the repository if ``repo_url`` is set; otherwise the path is shown.
    """

    def replace(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), link[2]))
        if path.startswith("docs/"):
            return link[0]
        if config.repo_url:
            return f"[{link[1]}]({config.repo_url.rstrip('/')}/blob/main/{path})"
        return f"`{path}`" if link[1].strip("`") == path else f"{link[1]} (`{path}`)"

    return LINK.sub(replace, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Let the names of tests break after a slash, a colon or an underscore."""
    breaks = re.compile("(/|::|_)")
    return TEST.sub(lambda code: "<code>" + breaks.sub(r"\1<wbr>", code[1]) + "</code>", html)
