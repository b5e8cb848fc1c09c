"""One whole clip, from the request to the stored result; read :meth:`WholeClip.find` to :meth:`WholeClip.land` in turn.

Operator and command line call these steps in order; between :meth:`~WholeClip.open` and :meth:`~WholeClip.land` they
run the segments' jobs with :class:`~airflow_provider_modelslab.jobs.whole_clip.run.SegmentRun`, in their own way to
wait. All that is paid for is in the ledgers of the segments, so each step can be begun anew.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.prices import amount_text
from airflow_provider_modelslab.jobs.stretch import check_stretch, needs_size
from airflow_provider_modelslab.jobs.whole_clip.prepare import SourceReader
from airflow_provider_modelslab.jobs.whole_clip.result import describe_whole
from airflow_provider_modelslab.jobs.whole_clip.segments import SegmentFolder, SegmentSet
from airflow_provider_modelslab.jobs.whole_clip.settings import identify_segments, segment_frames
from airflow_provider_modelslab.ledger.model import Entry, Fingerprint, kind_of
from airflow_provider_modelslab.local.media.whole_clip.join import join_segments
from airflow_provider_modelslab.storage.checks import require_writable
from airflow_provider_modelslab.storage.clip_head import clip_size
from airflow_provider_modelslab.storage.inputs import identify_input
from airflow_provider_modelslab.storage.local_files import fetch_object, land_file
from airflow_provider_modelslab.storage.s3_objects import is_gone, missing_objects
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.aspect import OnStretch
    from airflow_provider_modelslab.api.prices import JobPrice
    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.budget.spending import Spending
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import Caller
    from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.listing import LedgerListing, LedgerRoot
    from airflow_provider_modelslab.ledger.model import LedgerPolicy, Stored
    from airflow_provider_modelslab.ledger.service import Ledger

__all__ = ["OpenedClip", "WholeClip"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedClip:
    """The segments of a clip, and what is known of their jobs.

    :param listing: of the segments' ledgers.
    :param stored: results of segments that are in S3.
    :param running: jobs that are paid for, and are waited for.
    :param price: of one job, where there are prices.
    """

    segments: SegmentSet
    listing: LedgerListing
    stored: int
    running: int
    price: JobPrice | None

    @property
    def jobs(self) -> int:
        """How many jobs will be submitted."""
        return len(self.segments.plan.segments) - self.stored - self.running

    def line(self) -> str:
        """What the clip is and what it will take, for people."""
        plan, cost = self.segments.plan, ""
        if self.price is not None and self.jobs:
            amount = amount_text(self.price.reserved * self.jobs)
            cost = (
                f", estimated cost {'' if self.price.is_exact else 'at most '}{amount} {self.price.currency}".rstrip()
            )
        return (
            f"The whole clip has {plan.total} frames at {plan.fps} fps ({plan.total / plan.fps:.2f} s): "
            f"{len(plan.segments)} segments of {plan.segments[0].frames} frames. {self.stored} are already stored, "
            f"{self.running} have a job that is already paid for, {self.jobs} jobs to submit{cost}"
        )


@dataclass(frozen=True)
class WholeClip:
    """One clip, and who asks for it. Parameters are those of :class:`~..paid_job.PaidJob`, for all segments.

    :param ledger: of the clip's result.
    :param ledgers: where those of the segments are.
    :param known_source: the digest that identifies the clip, where it was computed already.
    :param check_destination: whether it is tried that the result can be put there; a batch tries it once.
    :raises InvalidRequestError: for settings that the request does not go together with.
    """

    request: Video2VideoRequest
    settings: WholeClipSettings
    hook: ModelsLabHook
    ledger: Ledger
    ledgers: LedgerRoot
    destination: S3Uri
    policy: LedgerPolicy
    attempt: AttemptId
    caller: Caller
    spending: Spending
    timeout: float = 3600.0
    clip_version: str | None = None
    known_source: str | None = None
    check_destination: bool = True
    on_stretch: OnStretch = "warn"

    def __post_init__(self) -> None:
        self.settings.check_request(self.request)

    @cached_property
    def _made_of(self) -> Fingerprint:
        """What identifies the segments."""
        source = self.known_source
        if source is None:
            found = identify_input(self.request.init_video, self.hook.get_s3_client, version=self.clip_version)
            source = found and Fingerprint.source_digest(found)
        return Fingerprint(identify_segments(self.request, self.hook.modelslab_conn_id), source)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What identifies the result."""
        request = self.settings.identify(self.request, self.hook.modelslab_conn_id)
        return replace(self._made_of, request=request)

    @cached_property
    def _folder(self) -> SegmentFolder:
        return SegmentFolder(
            self.ledgers,
            self.destination,
            self._made_of,
            frames=segment_frames(self.request),
            overlap=self.settings.overlap,
        )

    @cached_property
    def _reader(self) -> SourceReader:
        profile = self.hook.s3_profile
        staging = profile.uri("inputs") if profile.bucket else S3Uri(self.destination.bucket, "inputs")
        return SourceReader(self.request, self.settings, self.hook.get_s3_client, staging)

    def find(self) -> Stored | None:
        """The result that is stored already, and may be used.

        :raises ChangedRequestError: when another request was stored and this one must not replace it.
        """
        found = self.ledger.find_stored(self.fingerprint, self.policy, self.attempt)
        if found is None or is_gone(self.hook.get_s3_client(), found.manifest):
            return None
        return found

    def open(self) -> OpenedClip:
        """The segments, cut now or earlier, and which of them are paid for; it costs nothing.

        :raises InvalidRequestError: see :meth:`SourceReader.read`.
        :raises ClipUnreadableError: when the clip cannot be decoded.
        :raises StorageConfigurationError: when S3 refuses, and :class:`StorageUnavailableError` when it has trouble.
        """
        if self.check_destination:
            require_writable(self.hook.get_s3_client(), self.destination)
        found = self._folder.find(self.policy, self.attempt)
        if isinstance(found, int):
            if needs_size(self.request, self.on_stretch):
                size = clip_size(self.request.init_video, self.hook.get_s3_client)
                check_stretch(self.request, size, self.hook, self.on_stretch)
            log.info("Cutting the clip into segments")
            found = self._folder.add(self._reader.read(self._folder.uri, found))
        elif self.settings.audio == "require" and found.sound.uri is None:
            raise InvalidRequestError.of("audio", f"is 'require', but {found.sound.problem or 'there is no sound'}")
        segments = found.plan.segments
        if len(segments) > self.settings.max_segments:
            raise InvalidRequestError.of(
                "max_segments",
                f"is {self.settings.max_segments}, but the clip needs {len(segments)} segments, one job each",
            )
        listing = self.ledgers.list(found.destination(segment) for segment in segments)
        stored, running = self._known(found, listing)
        known = stored | running
        inputs = (S3Uri.parse(uri) for index, uri in enumerate(found.inputs) if index not in known)
        if missing := missing_objects(self.hook.get_s3_client(), inputs):
            log.info("%d segments are no longer in S3. The clip is cut again", len(missing))
            found = replace(found, inputs=self._reader.stage_again(found.plan))
        price = self.spending.price_of(found.request(segments[0], self.request))
        return OpenedClip(found, listing, len(stored), len(running), price)

    def _known(self, found: SegmentSet, listing: LedgerListing) -> tuple[set[int], set[int]]:
        """The segments whose results are stored, and those whose jobs run, as far as names of entries say."""
        stored, running = set(), set()
        for segment in found.plan.segments:
            kinds = {kind_of(name) for name in listing.names(found.destination(segment)) or ()}
            if Entry.LANDED in kinds:
                stored.add(segment.index)
            elif Entry.JOB in kinds and Entry.FAILED not in kinds:
                running.add(segment.index)
        return stored, running

    def land(self, segments: SegmentSet, manifests: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        """Join the results, land the clip, record it and return its manifest. Done again, it costs nothing.

        :param manifests: of all segments.
        :raises LandingError: when results cannot be joined, or S3 refuses the clip.
        """
        self._folder.complete(segments, self.attempt)
        kind = self.request.output_type or "mp4"
        ordered = [manifests[segment.index] for segment in segments.plan.segments]
        with_sound = kind == "mp4" and self.settings.audio != "drop" and segments.sound.uri is not None
        with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            work = Path(folder)
            sound = self._fetch(str(segments.sound.uri), work) if with_sound else None
            joined = work / f"joined.{kind}"
            results = (self._fetch(manifest["uri"], work) for manifest in ordered)
            size = join_segments(segments.plan, _one_by_one(results), joined, kind=kind, sound=sound)
            landed = land_file(joined, self.destination, self.hook.get_s3_client(), expected_type=kind)
        manifest = describe_whole(self, segments, ordered, landed, size=size, with_sound=with_sound)
        self.ledger.record_stored(self.fingerprint, self.attempt, manifest)
        return manifest

    def _fetch(self, uri: str, folder: Path) -> Path:
        return Path(fetch_object(uri, self.hook.get_s3_client, folder))


def _one_by_one(files: Iterator[Path]) -> Iterator[Path]:
    """The files, each of which is deleted when the next one is asked for."""
    for file in files:
        yield file
        file.unlink()
