"""What the video-to-video operators share: every attribute of the endpoint as an argument, and where results land."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from airflow.sdk import BaseOperator

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.api.quantities import is_template
from airflow_provider_modelslab.api.request import ATTRIBUTES, Video2VideoRequest
from airflow_provider_modelslab.api.suggestions import SuggestArguments
from airflow_provider_modelslab.compat import loop_index
from airflow_provider_modelslab.lineage.clip import ClipReport
from airflow_provider_modelslab.operators.rendered import clip_version_of, texts_again
from airflow_provider_modelslab.storage.uri import S3Uri, check_suffix, destination_problem, media_suffix

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.links.media import TaskLocation
    from airflow_provider_modelslab.storage.s3_profile import S3Profile

__all__ = [
    "RequestArguments",
    "Video2VideoArguments",
    "check_destination",
    "check_literal_suffix",
    "check_prefix",
    "instance_name",
    "is_literal",
    "link_suffix",
    "output_type_of",
    "resolve_destination",
    "resolve_output",
    "result_name",
]

_REQUIRED = ("model_id", "prompt", "init_video")

_ADVISED_AGAINST = re.compile(r"[^A-Za-z0-9!_.*'()-]")
"""Characters that S3 advises against in keys, such as the colons and the plus sign of a run id."""

_OWN_RUN_ID = re.compile(
    r"[a-z_]+__[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?[+-][0-9]{2}:[0-9]{2}(_[A-Za-z0-9]+)?"
)
"""The run ids that Airflow makes: a kind, a time, and perhaps random letters."""


class RequestArguments(SuggestArguments, BaseOperator):
    """The attributes of video-to-video jobs as keyword arguments, without the clip; all are templated.

    An attribute left at ``None`` is not sent, so the endpoint's own default applies. Types, ranges and the defaults
    that the vendor documents are those of :class:`~airflow_provider_modelslab.api.request.Video2VideoRequest`. Literal
    values are checked when the Dag is parsed; templates are checked when the task runs. The task also checks the limits
    of the place where the job runs: the vendor's limits if the connection leads to the vendor, or the limits of the
    local model's family. All checks come before anything is sent.

    :param model_id: the checkpoint, for example ``dark-sushi-mix``.
    :param prompt: what the video should show.
    :param negative_prompt: what should not be in the video.
    :param seed: the same seed gives the same result (0 to 2**32 - 1).
    :param height: pixels; at ModelsLab at most 768.
    :param width: pixels; at ModelsLab at most 768.
    :param num_frames: 16 by default; at ModelsLab at most 25.
    :param num_inference_steps: denoising steps, 20 by default; at ModelsLab at most 50.
    :param guidance_scale: scale of classifier-free guidance.
    :param clip_skip: CLIP layers to skip.
    :param strength: 0 to 1, 0.7 by default; a higher value changes the clip more.
    :param output_type: ``mp4`` (which this operator requests by default) or ``gif``. It must fit the suffix of the
        destination. With ``None`` the destination's suffix decides, or the endpoint if there is none.
    :param fps: frames per second of the result.
    :param lora_models: LoRAs: a list, or names joined by commas.
    :param lora_strength: one strength for all LoRAs, or one for each.
    :param motion_loras: motion LoRAs: a list, or names joined by commas.
    :param motion_lora_strength: one strength for all motion LoRAs, or one for each.
    :param domain_lora_scale: weight of the AnimateDiff v3 domain adapter.
    :param adapter_lora: name of the domain adapter; ``v2_sd15_adapter`` by default.
    :param motion_module: ``v2_sd15_mm`` (default), ``animatelcm``, ``animateDiff-lightning``.
    :param upscale_height: pixels; at ModelsLab at most 1024.
    :param upscale_width: pixels; at ModelsLab at most 1024.
    :param upscale_strength: 0 to 1; 0.6 by default.
    :param upscale_guidance_scale: 15.0 by default.
    :param upscale_num_inference_steps: 20 by default.
    :param use_improved_sampling: steadier motion, but slower.
    :param base64: request the result as base64 text; it is decoded when it is copied to S3.
    :param instant_response: the endpoint responds at once. On by default here, because this provider waits itself.
    :param temp: keep the result in the vendor's temporary storage.
    :param webhook: URL that gets a POST when the job is done.
    :param track_id: returned in the webhook; by default ``dag.task/run/submission1`` and so on, so that people can find
        the job.
    :param extra_parameters: attributes that the vendor's page does not list; they are sent unchanged. The query of a
        link in them is ignored in comparisons, because it may be a signature: two requests that differ only in the
        query are the same request, and the second one returns the landed result.
    """

    template_fields: Sequence[str] = (*(name for name in ATTRIBUTES if name != "init_video"), "extra_parameters")
    template_fields_renderers = {"prompt": "md", "negative_prompt": "md", "extra_parameters": "json"}  # noqa: RUF012
    ui_color = "#efe8fb"
    _may_come_with_the_clip: ClassVar[frozenset[str]] = frozenset(_REQUIRED)

    def __init__(
        self,
        *,
        model_id: str | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | str | None = None,
        height: int | str | None = None,
        width: int | str | None = None,
        num_frames: int | str | None = None,
        num_inference_steps: int | str | None = None,
        guidance_scale: float | str | None = None,
        clip_skip: int | str | None = None,
        strength: float | str | None = None,
        output_type: str | None = "mp4",
        fps: int | str | None = None,
        lora_models: str | Sequence[str] | None = None,
        lora_strength: float | str | Sequence[float] | None = None,
        motion_loras: str | Sequence[str] | None = None,
        motion_lora_strength: float | str | Sequence[float] | None = None,
        domain_lora_scale: float | str | None = None,
        adapter_lora: str | None = None,
        motion_module: str | None = None,
        upscale_height: int | str | None = None,
        upscale_width: int | str | None = None,
        upscale_strength: float | str | None = None,
        upscale_guidance_scale: float | str | None = None,
        upscale_num_inference_steps: int | str | None = None,
        use_improved_sampling: bool | str | None = None,
        base64: bool | str | None = None,
        instant_response: bool | str | None = True,
        temp: bool | str | None = None,
        webhook: str | None = None,
        track_id: str | None = None,
        extra_parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_id = model_id
        self.prompt = prompt
        self.negative_prompt = negative_prompt
        self.seed = seed
        self.height = height
        self.width = width
        self.num_frames = num_frames
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale
        self.clip_skip = clip_skip
        self.strength = strength
        self.output_type = output_type
        self.fps = fps
        self.lora_models = lora_models
        self.lora_strength = lora_strength
        self.motion_loras = motion_loras
        self.motion_lora_strength = motion_lora_strength
        self.domain_lora_scale = domain_lora_scale
        self.adapter_lora = adapter_lora
        self.motion_module = motion_module
        self.upscale_height = upscale_height
        self.upscale_width = upscale_width
        self.upscale_strength = upscale_strength
        self.upscale_guidance_scale = upscale_guidance_scale
        self.upscale_num_inference_steps = upscale_num_inference_steps
        self.use_improved_sampling = use_improved_sampling
        self.base64 = base64
        self.instant_response = instant_response
        self.temp = temp
        self.webhook = webhook
        self.track_id = track_id
        self.extra_parameters = extra_parameters
        self._check_literals()

    def _attributes(self) -> dict[str, Any]:
        return {name: getattr(self, name, None) for name in ATTRIBUTES}

    def _check_literals(self) -> None:
        """Check while the Dag is parsed what is neither a template nor another task's output."""
        literals = {name: value for name, value in self._attributes().items() if is_literal(value)}
        late = {
            name: "rendered later"
            for name in _REQUIRED
            if name not in literals or (literals[name] is None and name in self._may_come_with_the_clip)
        }
        for names, strengths in (("lora_models", "lora_strength"), ("motion_loras", "motion_lora_strength")):
            if names not in literals:
                literals.pop(strengths, None)  # how many it must be is known only with the names
        extra = self.extra_parameters if is_literal(self.extra_parameters) else None
        Video2VideoRequest(**literals | late, extra_parameters=extra)


class Video2VideoArguments(ClipReport, RequestArguments):
    """The attributes of one video-to-video job; ``model_id``, ``prompt`` and ``init_video`` are required.

    :param init_video: the clip: an http(s) link, an ``s3://`` object, or a local file.
    :param clip_version: identifies the clip instead of its link, ETag or content. The same text means the same clip, so
        nothing is paid for again; another text means another clip. The text is not sent, and is stored unchanged.
        Without it (or if it renders to nothing) the clip is identified by its content, see
        ``docs/explanation/ledger.md``.
    :param attributes: see :class:`RequestArguments`.
    """

    template_fields: Sequence[str] = (*RequestArguments.template_fields, "init_video", "clip_version")
    _may_come_with_the_clip: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, *, model_id: str, prompt: str, init_video: str, clip_version: str | None = None, **attributes: Any
    ) -> None:
        self.init_video = init_video
        self.clip_version = clip_version
        if is_literal(clip_version):
            clip_version_of(clip_version)
        super().__init__(model_id=model_id, prompt=prompt, **attributes)

    def build_request(self) -> Video2VideoRequest:
        """The request after templating.

        :raises InvalidRequestError: naming each attribute at fault, what was given and what is allowed.
        """
        given = texts_again(self._attributes())
        if is_blank(given["output_type"]):
            given["output_type"] = output_type_of(getattr(self, "destination", None))
        return Video2VideoRequest(**given, extra_parameters=self.extra_parameters)


def is_literal(value: object) -> bool:
    """Whether a value is known while the Dag is parsed: no template, and not what another task is going to return."""
    if isinstance(value, str):
        return not is_template(value)
    if isinstance(value, Mapping):
        return all(is_literal(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_literal(item) for item in value)
    return value is None or isinstance(value, bool | int | float)


def result_name(context: Context) -> str:
    """The default object name without suffix, the same for every try: see :func:`instance_name`."""
    return instance_name(context["ti"], loop_index(context))


def instance_name(ti: TaskLocation, loop_index: int | None = None) -> str:
    """``dag/task/run``, in a task loop with ``loop0`` and so on, of a mapped task with its map index.

    Ids that differ give names that differ, unless they are made to.
    """
    parts = [ti.dag_id, ti.task_id, ti.run_id]
    if loop_index is not None:
        parts.append(f"loop{loop_index}")
    if ti.map_index is not None and ti.map_index >= 0:
        parts.append(str(ti.map_index))
    return "/".join(map(_key_part, parts))


def _key_part(given: str) -> str:
    """An id as a part of a key. Where letters were replaced, a digest keeps it apart from those that look like it."""
    part = _ADVISED_AGAINST.sub("_", given)
    # What is replaced in Airflow's own run ids stands at known places, so no two of them become the same.
    if part == given or _OWN_RUN_ID.fullmatch(given):
        return part
    return f"{part}-{hashlib.sha256(given.encode()).hexdigest()[:8]}"


def check_destination(destination: str | None, *, field: str = "destination") -> None:
    """Refuse what cannot be a destination with any connection.

    :param destination: after templating, or where it is a literal.
    :param field: what the destination is called where it was given.
    :raises StorageConfigurationError: for an empty one, another scheme than ``s3://``, a URI without a legal bucket,
        and keys that many tools read as another place.
    """
    if destination is not None and (problem := destination_problem(destination)) is not None:
        raise StorageConfigurationError(f"{field}: {problem}")


def check_literal_suffix(task: BaseOperator) -> None:
    """While the Dag is parsed: :func:`check_suffix` for a task whose destination and output type are literals.

    :raises StorageConfigurationError: as :func:`check_suffix`.
    """
    destination, output_type = getattr(task, "destination", None), getattr(task, "output_type", None)
    if getattr(task, "_may_come_with_the_clip", None):
        return  # a function of the user returns attributes
    if isinstance(destination, str) and isinstance(output_type, str) and is_literal([destination, output_type]):
        check_suffix(destination, output_type.strip().lower())


def output_type_of(destination: object) -> str | None:
    """The output type that the name of a result says, if it says one."""
    suffix = media_suffix(destination) if isinstance(destination, str) else None
    return suffix if suffix in {"mp4", "gif"} else None


def check_prefix(destination: str | None, *, field: str = "destination") -> None:
    """Refuse the name of one video as the prefix of many.

    :raises StorageConfigurationError: for a name that ends with the suffix of a video.
    """
    if destination is not None and (suffix := media_suffix(destination)) is not None:
        raise StorageConfigurationError(
            f"{field}: is the prefix of all results, but ends with .{suffix} like one video; give a prefix such as "
            f"s3://bucket/restyled/; got {destination[:200]!r}"
        )


def resolve_destination(
    destination: str | None, profile: S3Profile, name: str, *, field: str = "destination"
) -> S3Uri | None:
    """Where a result lands; ``None`` when neither the task nor the connection names a bucket.

    :param destination: ``s3://bucket/key.mp4`` is taken as it is; a bucket alone, and a text that ends in ``/``, is a
        prefix and gets ``name``; without ``s3://`` it is a key below the connection's bucket and prefix.
    :param name: the object's name below a prefix, with its suffix.
    :param field: what the destination is called where it was given.
    :raises StorageConfigurationError: when a destination is given and there is no bucket for it, and for what
        :func:`check_destination` refuses.
    """
    if destination is None:
        return profile.uri(name) if profile.bucket else None
    check_destination(destination, field=field)
    destination = destination.strip()
    if "://" in destination:
        uri = S3Uri.parse(destination)
        return uri if uri.key and not uri.key.endswith("/") else uri.child(name)
    if not profile.bucket:
        raise StorageConfigurationError(
            f"{field}: {destination!r} has no bucket, and the connection has none either; "
            "give s3://bucket/..., or set bucket in the connection's extra"
        )
    return profile.uri(f"{destination}{name}" if destination.endswith("/") else destination)


def resolve_output(destination: str | None, profile: S3Profile) -> S3Uri | None:
    """The prefix that all results of a batch lie below; ``None`` when neither task nor connection names a bucket.

    :param destination: ``s3://bucket/prefix/``; without ``s3://`` it is below the connection's bucket and prefix.
    :raises StorageConfigurationError: for what :func:`check_destination` and :func:`check_prefix` refuse.
    """
    check_destination(destination)
    check_prefix(destination)
    destination = (destination or "").strip()
    if "://" in destination:
        return S3Uri.parse(destination)
    if not profile.bucket:
        return None
    return profile.uri(destination) if destination else S3Uri(profile.bucket, profile.prefix)


def link_suffix(links: Sequence[str]) -> str:
    """``mp4`` or ``gif`` as the best link's path ends; ``mp4`` where it does not tell."""
    suffix = PurePosixPath(urlsplit(links[0]).path).suffix.lower().lstrip(".") if links else ""
    return suffix if suffix in {"mp4", "gif"} else "mp4"
