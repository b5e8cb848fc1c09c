"""``/docs``: the OpenAPI document as a page without scripts, which needs no CDN and works in a closed network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

__all__ = ["CONTENT_SECURITY_POLICY", "docs_page"]

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = """:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto;padding:.75rem;border:1px solid #8886}
table{border-collapse:collapse;width:100%}th,td{border:1px solid #8886;padding:.25rem .5rem;text-align:left;
vertical-align:top}h2{margin-top:2.5rem}"""

_LIMITS = {
    "minimum": "at least {:.10g}",
    "maximum": "at most {:.10g}",
    "maxLength": "at most {} characters",
}


def docs_page(spec: Mapping[str, Any]) -> str:
    """HTML with each call: what it does, its attributes with type, range and default, and an example.

    :param spec: an OpenAPI document as FastAPI makes it.
    """
    title = escape(spec["info"]["title"])
    calls = "".join(_call(spec, path, *found) for path, methods in spec["paths"].items() for found in methods.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"</head><body><h1>{title}</h1>{_text(spec['info'].get('description', ''))}"
        f'<p>The same as <a href="openapi.json">OpenAPI document</a>, for tools that make calls from it.</p>{calls}'
        "</body></html>"
    )


def _call(spec: Mapping[str, Any], path: str, method: str, call: Mapping[str, Any]) -> str:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2>", _text(call.get("description", ""))]
    if call.get("security"):
        parts.append("<p>Takes a Bearer token.</p>")
    for media in call.get("requestBody", {}).get("content", {}).values():
        parts += [_attributes(_resolved(spec, media["schema"])), *_examples(media)]
    return "".join(parts)


def _attributes(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(attribute))}</td>"
        f"<td>{escape(_default(attribute, name in required))}</td><td>{escape(_limits(attribute))}</td>"
        f"<td>{escape(attribute.get('description', ''))}</td></tr>"
        for name, attribute in schema.get("properties", {}).items()
    )
    head = "".join(f"<th>{name}</th>" for name in ("attribute", "type", "default", "range", "description"))
    return f"<table><tr>{head}</tr>{rows}</table>"


def _examples(media: Mapping[str, Any]) -> Iterator[str]:
    for name, example in media.get("examples", {}).items():
        yield f"<p>Example ({escape(name)}):</p><pre>{escape(json.dumps(example['value'], indent=2))}</pre>"


def _kinds(attribute: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives that an attribute may be; ``null``, which means "not given", is none."""
    return [kind for kind in attribute.get("anyOf", [attribute]) if kind.get("type") != "null"]


def _type(attribute: Mapping[str, Any]) -> str:
    names = [f"list of {_type(kind['items'])}" if "items" in kind else str(kind["type"]) for kind in _kinds(attribute)]
    return " or ".join(names)


def _default(attribute: Mapping[str, Any], required: bool) -> str:
    return "required" if required else json.dumps(attribute.get("default"))


def _limits(attribute: Mapping[str, Any]) -> str:
    found = []
    for kind in _kinds(attribute):
        if "enum" in kind:
            found.append(", ".join(map(str, kind["enum"])))
        found += [text.format(kind[limit]) for limit, text in _LIMITS.items() if limit in kind]
    return ", ".join(found)


def _resolved(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/components/schemas/")
    return spec["components"]["schemas"][name] if name else schema


def _text(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part)
