"""The pages for people: `/`, to look at what is recommended, and `/docs`."""

import functools
import json
from html import escape
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Response

_FILES = {
    "/": ("index.html", "text/html"),
    "/static/page.js": ("page.js", "text/javascript"),
    "/static/page.css": ("page.css", "text/css"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
PATHS = frozenset(_FILES) | {"/docs", "/openapi.json"}
"""Everything that is here."""


def add_routes(app: FastAPI) -> None:
    """Let the application serve the pages and what they need; nothing comes from elsewhere."""
    for path, (name, kind) in _FILES.items():
        content = (files("contrarec.serving") / "static" / name).read_bytes()
        answer = functools.partial(_file, content, kind)
        app.add_api_route(path, answer, methods=["GET"], include_in_schema=False)
    app.add_api_route(
        "/docs", lambda: _file(docs_page(app.openapi()), "text/html"), include_in_schema=False
    )


def _file(content: bytes, kind: str) -> Response:
    headers = {"content-type": f"{kind}; charset=utf-8", "cache-control": "no-cache"}
    return Response(content, headers=headers)


def docs_page(description: dict[str, Any]) -> bytes:
    """Return a page that lists what an OpenAPI description describes."""
    parts = [
        _operation(path, method, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [
        _shape(name, shape)
        for name, shape in description["components"]["schemas"].items()
        if shape.get("type") == "object"
    ]
    title = escape(f"{description['info']['title']} {description['info']['version']}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: the API</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="static/page.css">
</head>
<body class="docs">
<main>
<h1>{title}: the API</h1>
<p><a href="./">Try it</a> · <a href="openapi.json">openapi.json</a></p>
{"".join(parts)}
<h2>Shapes</h2>
{"".join(shapes)}
</main>
</body>
</html>
""".encode()


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [
        (name["name"], name["schema"], name.get("description", ""), name.get("required", False))
        for name in operation.get("parameters", ())
    ]
    takes = _table([_row(*row) for row in rows])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        takes += f"<p>Body: {_kind(body['schema'])}</p>"
    answers = [
        f"<tr><td>{escape(status)}</td><td>{_kind(_schema(answer))}</td>"
        f"<td>{escape(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    ]
    return f"""<section>
<h2><code>{escape(method.upper())} {escape(path)}</code></h2>
<p>{escape(operation.get("description", ""))}</p>
{takes}{_table(answers)}
</section>
"""


def _shape(name: str, shape: dict[str, Any]) -> str:
    needed = shape.get("required", ())
    rows = [
        _row(field, kind, kind.get("description", ""), field in needed)
        for field, kind in shape.get("properties", {}).items()
    ]
    about, name = escape(shape.get("description", "")), escape(name)
    return f'<section id="{name}"><h3>{name}</h3><p>{about}</p>{_table(rows)}</section>'


def _table(rows: list[str]) -> str:
    return f'<div class="wide"><table>{"".join(rows)}</table></div>' if rows else ""


def _row(name: str, kind: dict[str, Any], about: str, needed: bool) -> str:
    default = f" = {json.dumps(kind['default'])}" if "default" in kind else ""
    limits = [f"{word} {kind[key]}" for key, word in _LIMITS.items() if key in kind]
    said = "; ".join(filter(None, [about.rstrip("."), "required" if needed else "", *limits]))
    return (
        f"<tr><td><code>{escape(name)}</code></td><td>{_kind(kind)}{escape(default)}</td>"
        f"<td>{escape(said)}</td></tr>"
    )


_LIMITS = {"minimum": "at least", "maximum": "at most"}


def _schema(answer: dict[str, Any]) -> dict[str, Any]:
    for content in answer.get("content", {}).values():
        schema: dict[str, Any] = content.get("schema", {})
        return schema
    return {}


def _kind(schema: dict[str, Any]) -> str:
    """Return the type of a value as HTML, with a link to the shape that it has."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        kinds = dict.fromkeys(_kind(part) for part in schema["anyOf"])
        return " or ".join(kinds)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return escape(str(schema.get("type", "text")))
