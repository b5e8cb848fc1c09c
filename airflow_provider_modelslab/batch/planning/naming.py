"""Where each result of a batch goes: a key below the output prefix, made from a template that cannot surprise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Formatter
from urllib.parse import unquote, urlsplit

from airflow_provider_modelslab.batch import DEFAULT_TEMPLATE

__all__ = ["FIELDS", "KeyTemplate", "Names", "stem_and_name"]

FIELDS = ("stem", "name", "ext", "seed", "hash", "index", "model_id", "path")
"""What a template may name, see :class:`KeyTemplate`."""

_PER_CLIP = {"stem", "name", "hash", "index", "seed", "path"}
_ENDINGS = (".{ext}", ".mp4", ".gif")
_PADDING = re.compile(r"0?\d{1,2}d?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_KEY_BYTES = 1024 - len(".json")  # of the sidecar


@dataclass(frozen=True, slots=True)
class Names:
    """The values for one clip.

    :param stem: the clip's file name without its suffix.
    :param name: the clip's file name.
    :param ext: the result's ``output_type``: ``mp4`` or ``gif``.
    :param hash: 12 hexadecimal digits of the clip's name and of the request.
    :param index: the clip's place in the batch, from 0.
    :param model_id: of the request.
    :param path: the clip's folder; ``None`` where it lies in none.
    :param seed: of the request; ``None`` when the endpoint draws one.
    """

    stem: str
    name: str
    ext: str
    hash: str
    index: int
    model_id: str
    path: str | None
    seed: int | None


class KeyTemplate:
    """A template for keys below the output prefix, checked when it is made.

    ``{stem}`` and ``{name}`` are the clip's file name without and with its suffix; ``{path}`` its folder, below the
    input prefix where there is one; ``{ext}`` follows ``output_type``; ``{seed}`` and ``{model_id}`` are the request's;
    ``{hash}`` is 12 hexadecimal digits of the clip's name and of the request; ``{index}`` (``{index:05d}``) the place
    in the batch, which moves when clips are added before it. A doubled brace is a brace. ``{path}/`` stands for nothing
    where a clip lies in no folder. All other slashes stay as they are, also two in a row.

    :raises ValueError: for a field that does not exist, a key that would leave the output prefix, one that is the same
        for all clips, is empty, too long, or has no suffix for a video.
    """

    def __init__(self, text: str = DEFAULT_TEMPLATE) -> None:
        self.text = text.strip()
        self.fields = frozenset(self._checked_fields())
        literal = Formatter().vformat(self.text, (), _Blank())
        if not self.text or self.text.endswith("/"):
            raise self._wrong("has no file name at its end; add one, like {stem}.{ext}")
        if ".." in self.text.split("/") or self.text.startswith("/") or "://" in self.text:
            raise self._wrong("must stay below the output prefix: a relative key without '..'")
        if _CONTROL.search(self.text):
            raise self._wrong("has control characters")
        if not self.text.endswith(_ENDINGS):
            raise self._wrong(f"must end with {', '.join(_ENDINGS)}")
        if not self.fields & _PER_CLIP:
            raise self._wrong(f"gives the same key for all clips; add one of {_braced(sorted(_PER_CLIP))}")
        if len(literal.encode()) > _MAX_KEY_BYTES:
            raise self._wrong(
                f"is longer than {_MAX_KEY_BYTES} bytes; S3 allows 1024 bytes, and the key of the sidecar is longer"
            )

    def render(self, names: Names) -> str:
        """The key for one clip.

        :raises ValueError: when this clip's values make no key: the text says why.
        """
        if names.seed is None and "seed" in self.fields:
            raise ValueError("the template uses {seed}, but this clip has no seed; give it one, or use {hash}")
        # A slash or a ".." in a value of a name would move the result to another folder.
        values = {field: getattr(names, field) for field in FIELDS}
        for field in ("stem", "name", "model_id"):
            values[field] = _CONTROL.sub("_", values[field].replace("/", "_"))
        values["path"] = names.path or ""
        text = self.text.replace("{path}/", "") if names.path is None else self.text
        key = text.format_map(values)
        parts = key.split("/")
        if ".." in parts or "." in parts:
            raise ValueError(
                f"the key {key[:200]!r} has a folder named '.' or '..', which many tools resolve to another key"
            )
        if not parts[-1].rpartition(".")[0]:
            raise ValueError(f"the key {key[:200]!r} has no file name before its suffix")
        if _CONTROL.search(key):
            raise ValueError(f"the key {key[:200]!r} has control characters")
        suffix = key.rpartition(".")[2]
        if suffix != names.ext:
            raise ValueError(f"the key {key[:200]!r} ends with .{suffix}, but output_type is {names.ext}; use .{{ext}}")
        return key

    def __repr__(self) -> str:
        return f"KeyTemplate({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyTemplate) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def _checked_fields(self) -> set[str]:
        try:
            pieces = list(Formatter().parse(self.text))
        except ValueError as error:
            raise self._wrong(f"is not a valid template ({error}); write a literal brace twice: {{{{") from None
        found = set()
        for _, field, specification, conversion in pieces:
            if field is None:
                continue
            if field not in FIELDS:
                raise self._wrong(f"uses the unknown field {{{field}}}; allowed: {_braced(FIELDS)}")
            if conversion or (specification and not _is_padding(field, specification)):
                raise self._wrong(f"has an unknown format for {{{field}}}; numbers can be padded, as in {{index:05d}}")
            found.add(field)
        return found

    def _wrong(self, why: str) -> ValueError:
        return ValueError(f"key_template: {self.text[:200]!r} {why}")


def stem_and_name(source: str) -> tuple[str, str]:
    """The file name without and with its suffix; ``clip`` where a link has none.

    :param source: ``s3://bucket/key``, an http(s) link or a local file.
    """
    scheme, separator, rest = source.partition("://")
    path = rest if separator else source
    if separator and scheme.lower() != "s3":
        path = unquote(urlsplit(source).path)
    name = path.rpartition("/")[2] or "clip"
    stem, dot, _ = name.rpartition(".")
    return (stem if dot and stem else name), name


def _is_padding(field: str, specification: str) -> bool:
    return field in {"index", "seed"} and _PADDING.fullmatch(specification) is not None


def _braced(fields: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in fields)


class _Blank(dict[str, object]):
    """Each field as nothing, to see what a template says by itself."""

    def __missing__(self, field: str) -> object:
        return 0 if field in {"index", "seed"} else ""
