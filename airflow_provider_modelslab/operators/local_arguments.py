"""What the operators that run on the worker's own GPU share: where the models are, and how they are run."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_modelslab.api.aspect import OnStretch
from airflow_provider_modelslab.api.clip_modes import (
    WholeOptions,
    check_audio,
    check_clip_mode,
    check_count,
    is_whole,
)
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.quantities import Number, Seconds, Whole, is_template
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.ledger.policy import LedgerPolicy
from airflow_provider_modelslab.local.media.aspect import KEEP_ASPECT, KeepAspect
from airflow_provider_modelslab.operators.spending_arguments import SpendingArguments

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.local.engine import LocalEngine
    from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
    from airflow_provider_modelslab.local.stage_types import Generated
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["LocalArguments"]

_DELIVERY = {
    "webhook": "use the task's on_success_callback",
    "temp": "the result lands in S3",
    "base64": "the result lands in S3 as it is",
}


class LocalArguments(SpendingArguments):
    """Where the models are, how they run, and where results land.

    :param destination: where results land (templated).
    :param modelslab_conn_id: the Airflow connection with the S3 profile (templated); its API key is not used.
    :param extra_args: arguments of ``put_object`` for every write to S3 (templated), see
        :class:`~airflow_provider_modelslab.operators.destination_arguments.DestinationArguments`.
    :param model_dir: folder with one folder for each model (templated); ``tiny`` and ``demo`` are built in.
    :param catalog: the user's own names of models, motion modules and LoRAs (templated): a JSON or YAML file, or a
        mapping with the same content; by default ``catalog`` in the connection's extra, else ``catalog.json`` in
        ``model_dir``.
    :param offline: download nothing from the Hugging Face Hub; use only what was downloaded before.
    :param allow_pickle: also read weights in ``.bin``, ``.ckpt`` and ``.pt``. Such files can run code: use only files
        from people you trust.
    :param device: ``auto`` (the GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``.
    :param dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
    :param compile: compile the model with ``torch.compile``: slower for the first clip of each size, faster after that;
        the results do not change.
    :param tiny_vae: use a small VAE (a folder, or ``org/name``). This and the next two arguments approximate the
        result; the sidecar records them.
    :param guidance_until: the share of the steps that use the guidance scale (templated); the other steps run without
        it, with half the work.
    :param reuse_deep: run the deep half of the model only in every n-th step (templated).
    :param clip_mode: ``"sample"`` (default) restyles ``num_frames`` frames, spread over the clip. ``"whole"`` restyles
        the whole clip, with its length and its sound, as one: in each denoising step the model sees it in overlapping
        context windows of ``num_frames`` frames (templated). Then ``fps`` is the frame rate of the result, by default
        the clip's own, at most 30.
    :param overlap: of a whole clip: frames that neighbouring windows share, 0 or more and less than ``num_frames``; by
        default 4 (templated).
    :param audio: of a whole clip: ``"keep"`` (default) keeps the sound if there is any, ``"drop"`` drops it,
        ``"require"`` fails if there is none that can be read (templated).
    :param max_segments: see ``deferrable``; a clip that is made here has no segments.
    :param keep_aspect: what to do with a clip of another aspect ratio than ``width`` and ``height``. ``"stretch"``
        distorts it, as the endpoint does. ``"crop"`` fills the size and cuts off what is outside. ``"fit"`` keeps the
        whole picture, so that one side of the result is shorter.
    :param timeout: time for one clip (templated), checked after each denoising step: seconds, text such as ``"1h"``,
        ``"90s"``, ``"1h30m"``, or a timedelta; above 0.
    :param allow_private_addresses: allow an ``init_video`` that is a link into your own network.
    :param reuse: which stored results are used instead of a new one, if request and clip are the same. ``"run"``: those
        made for this Dag run. ``"always"``: any. ``"never"``: only those made since the task was last cleared. The
        run's conf can set it too.
    :param on_changed_request: what to do if a result exists, but for another request: ``resubmit`` (make the new
        result) or ``fail``.
    :param deferrable: this and the next five are arguments of the remote operators. They are accepted, so that a Dag
        can change only the class, but have no effect here.
    :param poll_interval: see ``deferrable``.
    :param max_poll_interval: see ``deferrable``.
    :param check_input: see ``deferrable``.
    :param on_stretch: see ``deferrable``; ``keep_aspect`` decides what happens here.
    :param on_unknown_submission: see ``deferrable``.
    """

    machine_fields: ClassVar[tuple[str, ...]] = (
        *SpendingArguments.destination_fields,
        *SpendingArguments.spending_fields,
        "model_dir",
        "catalog",
        "tiny_vae",
        "guidance_until",
        "reuse_deep",
        "timeout",
        "clip_mode",
        "overlap",
        "audio",
    )

    guidance_until = Number()
    reuse_deep = Whole(least=1)
    timeout = Seconds(above=0)

    def __init__(
        self,
        *,
        destination: str | None = None,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        model_dir: str | None = None,
        catalog: str | Mapping[str, Any] | None = None,
        offline: bool = False,
        allow_pickle: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        compile: bool = False,  # noqa: A002 - torch's word for it
        tiny_vae: str | None = None,
        guidance_until: float | str = 1.0,
        reuse_deep: int | str = 1,
        keep_aspect: KeepAspect = "stretch",
        timeout: float | str | timedelta = 3600.0,
        allow_private_addresses: bool = False,
        reuse: Literal["run", "always", "never"] = "run",
        on_changed_request: Literal["resubmit", "fail"] = "resubmit",
        # Declared, since Airflow's partial() takes no names that stand in no signature.
        deferrable: bool = False,
        poll_interval: float | str | timedelta = 2.0,
        max_poll_interval: float | str | timedelta = 30.0,
        check_input: bool = True,
        on_stretch: OnStretch = "warn",
        on_unknown_submission: Literal["fail", "resubmit"] = "fail",
        clip_mode: str = "sample",
        overlap: int | str | None = None,
        audio: str | None = None,
        max_segments: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(destination=destination, modelslab_conn_id=modelslab_conn_id, **kwargs)
        self.model_dir = model_dir
        self.catalog = catalog
        self.offline = offline
        self.allow_pickle = allow_pickle
        self.device = device
        self.dtype = dtype
        self.compile = compile
        self.tiny_vae = tiny_vae
        self.guidance_until = guidance_until
        self.reuse_deep = reuse_deep
        self.keep_aspect = keep_aspect
        self.timeout = timeout
        self.allow_private_addresses = allow_private_addresses
        self.clip_mode = clip_mode
        self.overlap = overlap
        self.audio = audio
        self.reuse = reuse
        self.on_changed_request = on_changed_request
        self._killed = threading.Event()
        if keep_aspect not in KEEP_ASPECT:
            raise InvalidRequestError.of(
                "keep_aspect", f"must be one of {', '.join(KEEP_ASPECT)}; got {keep_aspect!r:.200}"
            )
        self._ledger_policy()  # this and the next refuse what makes no sense while the Dag is parsed
        self._check_clip_mode()
        if not (is_template(guidance_until) or is_template(reuse_deep)):
            self._speed()

    def on_kill(self) -> None:
        """Stop after the running denoising step."""
        self._killed.set()

    @cached_property
    def _engine(self) -> LocalEngine:
        from airflow_provider_modelslab.local.engine import LocalEngine
        from airflow_provider_modelslab.local.media.fetch import FetchLimits

        return LocalEngine(
            model_dir=self.model_dir,
            catalog_file=self.catalog or self.hook.extra.get("catalog"),
            offline=self.offline,
            allow_pickle=self.allow_pickle,
            device=self.device,
            dtype=self.dtype,
            speed=self._speed(),
            keep_aspect=self.keep_aspect,
            limits=FetchLimits(allow_private_addresses=self.allow_private_addresses),
        )

    def _check_local(self, request: Video2VideoRequest) -> None:
        """Refuse what a local task has no use for, and what the model cannot honour.

        :raises InvalidRequestError: naming every attribute at fault.
        """
        from airflow_provider_modelslab.operators.local_clip import named_as_arguments

        fields = {
            name: [f"cannot be used in a local task ({advice}); leave it out; got {getattr(request, name)!r}"]
            for name, advice in _DELIVERY.items()
            if getattr(request, name)
        }
        if fields:
            raise InvalidRequestError.of_fields(fields)
        with named_as_arguments():
            self._engine.check(request)

    def _check_clip_mode(self) -> None:
        """Check while the Dag is parsed what is not a template.

        :raises InvalidRequestError: for a value that is not allowed.
        :raises ValueError: for options of a whole clip without ``clip_mode="whole"``.
        """
        if not is_template(self.overlap):
            check_count("overlap", self.overlap, 0, None)
        if not is_template(self.audio):
            check_audio(self.audio)
        if not is_template(self.clip_mode):
            is_whole(self.clip_mode, {"overlap": self.overlap, "audio": self.audio})

    def _clip_mode_parameters(self) -> dict[str, Any]:
        """The extra parameters that ask the engine for a whole clip; none for a sample.

        :raises InvalidRequestError: for a value that is not allowed.
        """
        if check_clip_mode(self.clip_mode) == "sample":
            return {}
        return WholeOptions(check_count("overlap", self.overlap, 0, None), check_audio(self.audio)).parameters()

    def _speed(self) -> Optimizations:
        from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

        return Optimizations(
            compile=self.compile,
            tiny_vae=self.tiny_vae,
            guidance_until=self.guidance_until,
            reuse_deep=self.reuse_deep,
        )

    def _land(self, request: Video2VideoRequest, made: Generated, target: S3Uri, started: float) -> dict[str, Any]:
        """See :func:`~airflow_provider_modelslab.operators.local_clip.land_clip`."""
        from airflow_provider_modelslab.jobs.budgets import prices_of
        from airflow_provider_modelslab.operators.local_clip import land_clip

        prices = prices_of(self.hook, self.prices)
        return land_clip(
            self.hook, request, made, target, conn_id=self.modelslab_conn_id, started=started, prices=prices
        )

    def _made_by(self) -> str:
        """What stands for the connection in a fingerprint, with all that changes results and is not in the request."""
        approximations = self._speed().approximations()
        if self.keep_aspect != "stretch":
            approximations["keep_aspect"] = self.keep_aspect
        return f"local:{self.modelslab_conn_id}" + (
            f":{json.dumps(approximations, sort_keys=True)}" * bool(approximations)
        )

    def _ledger_policy(self) -> LedgerPolicy:
        return LedgerPolicy(self.reuse, self.on_changed_request, "resubmit")
