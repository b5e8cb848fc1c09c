"""Clips named in a file: JSON lines or CSV, in S3 or on disk, packed with gzip or not."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from botocore.exceptions import BotoCoreError

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import ATTRIBUTES
from airflow_provider_modelslab.batch.planning.validation import Problems
from airflow_provider_modelslab.batch.sources.clips import Clip, Clips
from airflow_provider_modelslab.batch.sources.parsing import CLIP_VERSION, DESTINATION, SOURCE_FIELDS, clip_from
from airflow_provider_modelslab.storage.inputs import S3Factory
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3ErrorKind, kind_of, storage_error
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["MANIFEST_SUFFIXES", "is_manifest", "read_manifest"]

MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")

_EXTRA = "extra_parameters"
_COLUMNS = (
    *SOURCE_FIELDS,
    *(name for name in ATTRIBUTES if name not in SOURCE_FIELDS),
    _EXTRA,
    DESTINATION,
    CLIP_VERSION,
)
_BLANK = " ,;\t\r\n"  # what a line of empty cells is made of
_MAX_LINE = 1024 * 1024  # characters: longer ones are no manifest
_MAX_DEPTH = 100  # levels of JSON; what checks and writes a request goes down some 200


def is_manifest(where: str) -> bool:
    """Whether a place names a manifest file, by its suffix; ``.gz`` may follow."""
    return where.strip().lower().removesuffix(".gz").endswith(MANIFEST_SUFFIXES)


def read_manifest(where: str, s3_factory: S3Factory) -> Clips:
    """The clips of a manifest file.

    JSON lines: one object a line, or a text that is the clip alone. CSV: a header line; an empty cell overrides
    nothing; separated by commas, semicolons or tabs; ``extra_parameters`` is a JSON object. Both: ``init_video`` (or
    ``uri``, ``source``), perhaps ``destination`` and ``clip_version``, and any attribute of the endpoint for this clip
    alone. Blank lines do not matter. UTF-8. The results manifest of an earlier batch can be read too: what landed there
    are the clips.

    :param where: ``s3://bucket/key`` or a local path, ending with ``.jsonl``, ``.ndjson``, ``.csv`` or ``.tsv``, and
        perhaps ``.gz``.
    :param s3_factory: makes the S3 client; called for ``s3://`` only.
    :raises InvalidRequestError: naming file, line, field, and what was given, for the first 20 bad lines.
    :raises StorageConfigurationError: when S3 refuses to give the file.
    """
    where = where.strip()
    if not is_manifest(where):
        raise InvalidRequestError.of(
            "manifest", f"{where!r} has no known suffix; use {', '.join(MANIFEST_SUFFIXES)}, or one of them with .gz"
        )
    problems = Problems(f"The manifest {where}")
    ignored: Counter[str] = Counter()
    clips: list[Clip] = []
    name = where.lower().removesuffix(".gz")
    with _lines(where, s3_factory) as lines:
        try:
            rows = _csv(lines, problems) if name.endswith((".csv", ".tsv")) else _jsonl(lines, problems)
            for number, item in rows:

                def tell(field: str, text: str, number: int = number) -> None:
                    problems.add(f"line {number}", field, text)

                clip = clip_from(item, number, tell, ignored)
                if clip is not None:
                    clips.append(clip)
        except (UnicodeDecodeError, OSError, EOFError, zlib.error, csv.Error, BotoCoreError) as error:
            raise InvalidRequestError.of(
                "manifest", f"{where} cannot be read completely: {type(error).__name__}: {error}"
            ) from error
    problems.raise_if_any()
    return Clips(tuple(clips), where, "line", ignored=dict(ignored))


def _jsonl(lines: Iterator[str], problems: Problems) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = _parsed(line)
        except ValueError as error:
            problems.add(f"line {number}", "line", str(error))
            continue
        if item is None or not isinstance(item, str | Mapping):
            problems.add(f"line {number}", "line", f"must be a JSON object with init_video; got {line.strip()[:80]!r}")
            continue
        yield number, item


def _csv(lines: Iterator[str], problems: Problems) -> Iterator[tuple[int, object]]:
    start, head = next(((number, line) for number, line in enumerate(lines, 1) if line.strip(_BLANK)), (1, ""))
    delimiter = max(",;\t", key=head.count)
    columns = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
    if not _check_header(columns, f"line {start}", problems):
        return
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    for cells in reader:
        number = start + reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            problems.add(f"line {number}", "line", f"has {len(cells)} cells for {len(columns)} columns")
            continue
        item: dict[str, Any] = {name: cell for name, cell in zip(columns, cells, strict=True) if cell.strip()}
        if _EXTRA in item:
            try:
                item[_EXTRA] = _parsed(item[_EXTRA])
            except ValueError as error:
                problems.add(
                    f"line {number}", _EXTRA, f"must be a JSON object; got {item[_EXTRA][:80]!r}, which {error}"
                )
                continue
        yield number, item


def _parsed(text: str) -> Any:
    """A JSON value.

    :raises ValueError: saying what it is instead.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"is nested more than {_MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"is nested more than {_MAX_DEPTH} levels deep")
    return value


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_header(columns: list[str], place: str, problems: Problems) -> bool:
    """Whether the rows can be read; a wrong column is told once, not in every line."""
    before = problems.count
    if not set(columns) & set(SOURCE_FIELDS):
        problems.add(place, "header", f"needs a column init_video; got {', '.join(columns)[:200]!r}")
    for name in sorted({name for name in columns if columns.count(name) > 1}):
        problems.add(place, "header", f"has the column {name!r} more than once")
    for name in columns:
        if name not in _COLUMNS:
            near = difflib.get_close_matches(name, _COLUMNS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"to send it anyway, put it into {_EXTRA}"
            problems.add(place, "header", f"{name!r} is not an attribute of the endpoint; {hint}")
    return problems.count == before


@contextmanager
def _lines(where: str, s3_factory: S3Factory) -> Iterator[Iterator[str]]:
    """The file's lines, unpacked and decoded as they are read."""
    with ExitStack() as stack:
        raw = stack.enter_context(_opened(where, s3_factory))
        start = raw.peek(2)[:2]
        packed = start == b"\x1f\x8b"
        plain = stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
        text = stack.enter_context(io.TextIOWrapper(cast("IO[bytes]", plain), encoding="utf-8-sig", newline=""))
        yield _bounded(text, where)


def _bounded(text: io.TextIOWrapper, where: str) -> Iterator[str]:
    while line := text.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            raise InvalidRequestError.of("manifest", f"{where} has a line of more than {_MAX_LINE} characters")
        yield line


@contextmanager
def _opened(where: str, s3_factory: S3Factory) -> Iterator[io.BufferedReader[Any]]:
    if where.lower().startswith("s3://"):
        uri = S3Uri.parse(where)
        try:
            body = s3_factory().get_object(Bucket=uri.bucket, Key=uri.key)["Body"]
        except S3_ERRORS as error:
            if kind_of(error) is S3ErrorKind.NO_OBJECT:
                raise InvalidRequestError.of("manifest", f"there is no object {uri}") from error
            raise storage_error(error, uri) from error
        with io.BufferedReader(_Body(body)) as reader:
            yield reader
        return
    path = Path(unquote(urlsplit(where).path)) if where.lower().startswith("file://") else Path(where)
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidRequestError.of("manifest", f"{path} cannot be opened ({error.strerror})") from error
    with file:
        yield file


class _Body(io.RawIOBase):
    """A download as a raw file, so that it is unpacked while it flows."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: ReadableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._body.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()
