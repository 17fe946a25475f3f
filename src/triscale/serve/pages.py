"""The web pages: classify images, and read about the API; both work without any other site."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from triscale.serve.describe_api import operations_of, records_of
from triscale.serve.model import Served

_TEMPLATES = Environment(
    loader=PackageLoader("triscale.serve", "templates"), autoescape=True, undefined=StrictUndefined
)
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def add_pages(app: FastAPI, about: Served) -> None:
    """Add the web pages, which are not part of the documented API.

    Args:
        app: The application.
        about: Gives the name of the data set, which is the title.
    """
    page = _TEMPLATES.get_template("page.html").render(title=about.dataset)
    docs = _TEMPLATES.get_template("docs.html")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return _page(page)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def show_docs(request: Request) -> HTMLResponse:
        api = app.openapi()
        operations = operations_of(api, _examples(str(request.base_url).rstrip("/")))
        return _page(docs.render(api=api, operations=operations, records=records_of(api)))

    @app.get("/favicon.ico", include_in_schema=False)
    async def show_icon() -> Response:
        return Response(status_code=204)


def content_policy(page: str) -> str:
    """Return the Content-Security-Policy of a page: its own inline styles and scripts, by digest, and nothing else.

    Example:
        >>> "script-src 'none'" in content_policy("<style>p { margin: 0 }</style>")
        True
    """
    allowed: dict[str, list[str]] = {"style": [], "script": []}
    for kind, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    styles, scripts = (" ".join(allowed[kind]) or "'none'" for kind in ("style", "script"))
    return (
        f"default-src 'none'; img-src data: blob:; style-src {styles}; script-src {scripts}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _page(page: str) -> HTMLResponse:
    headers = {
        "Content-Security-Policy": content_policy(page),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(page, headers=headers)


def _examples(address: str) -> dict[str, tuple[str, ...]]:
    predict = f"{address}/api/predict"
    # printf is a builtin of the shell, so the length of a command line does not limit the image.
    base64_example = (
        """printf '{"image": "%s"}' "$(base64 -w0 image.jpg)" |\n"""
        f"  curl -H 'Content-Type: application/json' --data-binary @- {predict}"
    )
    return {
        "/api/predict": (
            f"curl --data-binary @image.jpg '{predict}?top=3'",
            f"curl -F file=@one.jpg -F file=@two.jpg {predict}",
            base64_example,
        ),
        "/api/scale": (f"curl '{address}/api/scale?budget=400M'",),
        "/api/model": (f"curl {address}/api/model",),
        "/api/health": (f"curl {address}/api/health",),
    }
