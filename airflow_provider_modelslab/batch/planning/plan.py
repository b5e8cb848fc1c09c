"""From clips and attributes to what will be done: one request, one destination and one fingerprint for each clip.

Everything that is wrong with any clip is told at once, before anything is paid for. A plan of 10,000 clips holds no
10,000 requests: each distinct set of overrides is validated once, and a clip's request is made when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.batch.planning.destinations import Destinations
from airflow_provider_modelslab.batch.planning.naming import KeyTemplate, Names, stem_and_name
from airflow_provider_modelslab.batch.planning.selection import ALL, Selection
from airflow_provider_modelslab.batch.planning.validation import Problems
from airflow_provider_modelslab.batch.sources.clips import Clip, Clips, safe_source
from airflow_provider_modelslab.batch.sources.content_ids import identify, link_identity
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.storage.inputs import S3Factory
from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["BatchPlan", "ClipPlan", "make_plan", "variant_of"]

_EXTRA = "extra_parameters"
_NAMED_DUPLICATES = 20


@dataclass(frozen=True, slots=True, repr=False)
class ClipPlan:
    """What will be done with one clip.

    :param index: its place in the batch, from 0.
    :param source: the request's ``init_video``. It may be a signed link, so it is not shown in the repr.
    :param overrides: attributes of this clip alone.
    :param destination: where its result goes.
    :param fingerprint: as the operator of one clip computes it, so that both know each other's results.
    :param output_type: ``mp4`` or ``gif``.
    :param bytes: the clip's size, where a listing told it.
    :param clip_version: what the user says which clip it is.
    :param segment: which segment of a whole clip, from 0; ``None`` for all of the clip.
    """

    index: int
    source: str
    overrides: Mapping[str, Any]
    destination: S3Uri
    fingerprint: Fingerprint
    output_type: str
    bytes: int | None = None
    clip_version: str | None = None
    segment: int | None = None

    @property
    def safe_source(self) -> str:
        """The source without a query: safe to log and to store."""
        return safe_source(self.source)

    def __repr__(self) -> str:
        return f"ClipPlan({self.index}, {self.safe_source!r} -> {str(self.destination)!r})"


@dataclass(frozen=True, slots=True, repr=False)
class BatchPlan:
    """What will be done.

    :param clips: one entry for each clip, in order; ``clips[i].index == i``.
    :param common: the attributes that all clips share.
    :param conn_id: what the fingerprints were made with.
    :param output: the output prefix.
    :param where: what was looked through.
    :param ignored: how much was passed over, by reason.
    :param duplicate_count: clips named twice with the same overrides; the second was left out.
    :param duplicates: the first of them, as text for people.
    :param notes: what a person should know before it runs.
    """

    clips: tuple[ClipPlan, ...]
    common: Mapping[str, Any]
    conn_id: str
    output: S3Uri
    where: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)
    duplicate_count: int = 0
    duplicates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[ClipPlan]:
        return iter(self.clips)

    def __repr__(self) -> str:
        return f"BatchPlan({len(self.clips)} clips -> {self.output})"

    def request(self, clip: ClipPlan) -> Video2VideoRequest:
        """The validated request of a clip, made anew each time."""
        return Video2VideoRequest(**_merged(self.common, clip.overrides), init_video=clip.source)


def make_plan(
    clips: Clips,
    common: Mapping[str, Any],
    *,
    output: S3Uri,
    conn_id: str,
    s3_factory: S3Factory,
    template: KeyTemplate | None = None,
    selection: Selection = ALL,
    workers: int = 16,
    check: Callable[[Video2VideoRequest], None] | None = None,
    identify_request: Callable[[Video2VideoRequest, str], str] | None = None,
) -> BatchPlan:
    """Plan a batch, or tell everything that is wrong with it.

    Objects that were listed need no further look; for others see :func:`identify`.

    :param common: attributes of :class:`Video2VideoRequest` for all clips; ``init_video`` among them does not count.
        A clip's overrides go before them; ``extra_parameters`` of both are joined.
    :param output: the prefix that all results lie below.
    :param conn_id: as the operator gives it to :meth:`Fingerprint.of`.
    :param template: for the keys below ``output``; ``{path}/{stem}.{ext}`` by default.
    :param selection: which clips are done now. All are checked and named, so that a clip has the same name in a sample.
    :param workers: how many objects are looked at a time, where they were not listed.
    :param check: raises :class:`InvalidRequestError` for what cannot be done where the jobs run. Called once for each
        distinct set of attributes, with a stand-in for the clip.
    :param identify_request: the digest of a request at a connection; by default that of :class:`Fingerprint`.
    :raises InvalidRequestError: naming, for the first 20 problems, the clip, the attribute, what was given and what
        is allowed; also for two clips with the same destination, and for a result in the place of a clip.
    :raises StorageConfigurationError: when S3 refuses to tell about a clip.
    """
    shared = {name: value for name, value in common.items() if name != "init_video"}
    problems = Problems("The batch" + (f" over {clips.where}" if clips.where else ""))
    template = template or KeyTemplate()
    variants = _Variants(shared, conn_id, check, identify_request or _digest_of)
    places = Destinations(clips, output, problems)
    drafts: list[_Draft] = []
    seen: dict[tuple[str, str, str | None, str | None], str] = {}
    duplicates: list[str] = []
    duplicate_count = 0
    for clip in clips.clips:
        place = clips.location_of(clip)
        key = variant_of(clip.overrides)
        first = seen.setdefault((clip.source, key, clip.destination, clip.version), place)
        if first is not place:
            duplicate_count += 1
            if len(duplicates) < _NAMED_DUPLICATES:
                duplicates.append(f"{safe_source(clip.source)}: {first}, and again {place}")
            continue
        variant = variants.get(key, clip.overrides, place, problems)
        if variant is None:
            continue
        names = _names(clip, variant, len(drafts))
        destination = places.take(clip, place, template, names)
        if destination is not None:
            drafts.append(_Draft(clip, variant, destination))
    problems.raise_if_any()
    found, ignored = len(drafts), dict(clips.ignored)
    drafts = [drafts[index] for index in selection.pick([str(draft.destination) for draft in drafts])]
    if len(drafts) < found:
        ignored[selection.left_out] = found - len(drafts)
    identities = identify([draft.clip for draft in drafts], s3_factory, workers)
    notes = []
    if "index" in template.fields and drafts:
        notes.append(
            "The key template uses {index}. If a clip is added before others, the names of all later clips change. "
            "Their earlier results are then not found, and are paid for again. {hash} does not have this problem"
        )
    return BatchPlan(
        clips=tuple(
            ClipPlan(
                index=index,
                source=draft.clip.source,
                overrides=draft.clip.overrides,
                destination=draft.destination,
                fingerprint=Fingerprint(draft.variant.request, identity and Fingerprint.source_digest(identity)),
                output_type=draft.variant.output_type,
                bytes=draft.clip.bytes,
                clip_version=draft.clip.version,
            )
            for index, (draft, identity) in enumerate(zip(drafts, identities, strict=True))
        ),
        common=shared,
        conn_id=conn_id,
        output=output,
        where=clips.where,
        ignored=ignored,
        duplicate_count=duplicate_count,
        duplicates=tuple(duplicates),
        notes=tuple(notes),
    )


class _Variant(NamedTuple):
    """What a set of overrides amounts to; the same for all clips that share it."""

    request: str  # the fingerprint's digest
    name: str  # the same whatever the connection, for {hash}
    output_type: str
    seed: int | None
    model_id: str


def variant_of(overrides: Mapping[str, Any]) -> str:
    """The same for clips whose own attributes are the same: what is true of one of them is true of all."""
    return json.dumps(dict(overrides), sort_keys=True, default=str) if overrides else ""


class _Draft(NamedTuple):
    clip: Clip
    variant: _Variant
    destination: S3Uri


class _Variants:
    """Validates each distinct set of overrides once."""

    def __init__(
        self,
        common: Mapping[str, Any],
        conn_id: str,
        check: Callable[[Video2VideoRequest], None] | None,
        identify_request: Callable[[Video2VideoRequest, str], str],
    ) -> None:
        self._common = common
        self._conn_id = conn_id
        self._check = check
        self._identify = identify_request
        self._known: dict[str, _Variant | None] = {}

    def get(self, key: str, overrides: Mapping[str, Any], place: str, problems: Problems) -> _Variant | None:
        """``None`` when they are wrong, which is told for the first clip that has them."""
        if key not in self._known:
            self._known[key] = self._validated(overrides, place, problems)
        return self._known[key]

    def _validated(self, overrides: Mapping[str, Any], place: str, problems: Problems) -> _Variant | None:
        try:
            # The clip itself is no part of what is compared, so a stand-in serves for all that share the overrides.
            request = Video2VideoRequest(**_merged(self._common, overrides), init_video="https://clip.invalid/")
            if self._check is not None:
                self._check(request)
        except InvalidRequestError as error:
            for name, texts in error.fields.items():
                problems.add(place if overrides else "all clips", name, "; ".join(texts))
            return None
        return _Variant(
            request=self._identify(request, self._conn_id),
            name=self._identify(request, ""),
            output_type=request.output_type or "mp4",
            seed=request.seed,
            model_id=request.model_id,
        )


def _merged(common: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**common, **overrides}
    both = common.get(_EXTRA), overrides.get(_EXTRA)
    if all(isinstance(extra, Mapping) for extra in both):
        merged[_EXTRA] = {**(both[0] or {}), **(both[1] or {})}
    return merged


def _names(clip: Clip, variant: _Variant, index: int) -> Names:
    stem, name = stem_and_name(clip.source)
    return Names(
        stem=stem,
        name=name,
        ext=variant.output_type,
        hash=_digest(f"{link_identity(clip.source, clip.version)}\0{variant.name}")[:12],
        index=index,
        model_id=variant.model_id,
        path=clip.path,
        seed=variant.seed,
    )


def _digest_of(request: Video2VideoRequest, conn_id: str) -> str:
    return Fingerprint.of(request, conn_id=conn_id, source=None).request


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
