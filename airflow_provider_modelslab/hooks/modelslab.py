"""The hook: one Airflow connection gives the endpoint and the S3 configuration."""

from __future__ import annotations

import asyncio
import math
import re
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook

from airflow_provider_modelslab.api.errors import AuthenticationError, JobNotFinishedError, StorageConfigurationError
from airflow_provider_modelslab.api.redaction import scrub
from airflow_provider_modelslab.api.response import Failed, Finished
from airflow_provider_modelslab.client.config import (
    DEFAULT_BASE_URL,
    SubmitPolicy,
    Timeouts,
    is_vendor,
    longest_submit,
    normalise_base_url,
)
from airflow_provider_modelslab.compat import runs_triggers_inline
from airflow_provider_modelslab.connection_form import field_behaviour, form_widgets
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.storage.extra_args import checked_extra_args, send_extra_args
from airflow_provider_modelslab.storage.result_manifest import Job, landed_manifest, seed_of
from airflow_provider_modelslab.storage.s3_profile import S3Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests
    from airflow.sdk import Connection
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
    from airflow_provider_modelslab.api.poll_policy import PollPolicy
    from airflow_provider_modelslab.api.polling import Decision, Wait
    from airflow_provider_modelslab.api.response import Answer
    from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient
    from airflow_provider_modelslab.client.client import ModelsLabClient
    from airflow_provider_modelslab.storage.landing import LandedObject
    from airflow_provider_modelslab.storage.signing import LinkSigner
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["ModelsLabHook"]

_LEASE_RESERVE = 60.0
"""Seconds of a lease that no submit uses: to write the claim before it and the job after it."""


class ModelsLabHook(BaseHook):
    """Access to ModelsLab's Enterprise video server, or to the same endpoint served elsewhere, and to S3.

    Connection fields: the API key is the password; host (optionally with port and path) replaces the base URL
    ``https://modelslab.com/api/v1``. The extra contains the S3 profile: ``bucket``, ``prefix``, ``aws_conn_id`` (the
    Amazon provider's connection with the credentials, ``aws_default``), ``region`` (the bucket's; by default that of
    the AWS connection), ``endpoint_url`` (for S3-compatible stores; may also be in the AWS connection) and
    ``public_url`` (where anyone can read the bucket; links to results then use it, and ``update_s3`` needs it for
    S3-compatible stores). With ``webhook_url`` and ``webhook_token`` in the extra, submits carry a webhook, unless the
    request has its own. ``extra_args`` in the extra are arguments of ``put_object`` for every write to S3.

    :param modelslab_conn_id: the Airflow connection.
    :param timeouts: seconds to connect, to read and in all; without ``instant_response`` the server holds a submit.
    :param submit_policy: how often a *refused* submit is repeated. One whose outcome is unknown is never repeated.
    :param extra_args: override those of the connection by name; the value ``None`` removes one.
    """

    conn_name_attr = "modelslab_conn_id"
    default_conn_name = DEFAULT_CONN_NAME
    conn_type = "modelslab"
    hook_name = "ModelsLab"

    def __init__(
        self,
        modelslab_conn_id: str = default_conn_name,
        *,
        timeouts: Timeouts | None = None,
        submit_policy: SubmitPolicy | None = None,
        extra_args: Mapping[str, Any] | str | None = None,
    ) -> None:
        super().__init__()
        self.modelslab_conn_id = modelslab_conn_id
        self.timeouts = timeouts or Timeouts()
        self.submit_policy = submit_policy or SubmitPolicy()
        self.extra_args = checked_extra_args(extra_args)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The connection form for Airflow 3.1; later versions read the provider's metadata."""
        return field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's fields of the extra for Airflow 3.1; later versions read the provider's metadata."""
        return form_widgets()

    # -- the endpoint ---------------------------------------------------------------------------------------------

    @cached_property
    def connection(self) -> Connection:
        """The Airflow connection."""
        return self.get_connection(self.modelslab_conn_id)

    @cached_property
    def extra(self) -> dict[str, Any]:
        """The connection's extra. Airflow masks it at each reading, so it is read once; see :meth:`get_conn`."""
        return self.connection.extra_dejson

    @property
    def base_url(self) -> str:
        """The base URL: the connection's host, else the vendor's URL."""
        return _base_url(self.connection)

    def get_conn(self) -> ModelsLabClient:
        """The blocking client, made once.

        Call it in the task's own thread before others use the hook: Airflow 3.1 mixes up what several threads ask of
        the task's supervisor, and the task hangs.

        :raises AuthenticationError: when the connection has no key.
        """
        return self._client

    @cached_property
    def _client(self) -> ModelsLabClient:
        from airflow_provider_modelslab.client.client import ModelsLabClient

        _ = self.extra  # for submits of other threads
        return ModelsLabClient(
            self._key(self.connection),
            base_url=_base_url(self.connection),
            timeouts=self.timeouts,
            submit_policy=self.submit_policy,
        )

    async def get_async_client(self) -> AsyncModelsLabClient:
        """An asynchronous client that the caller closes; the connection is read without blocking the event loop.

        :raises AuthenticationError: when the connection has no key.
        """
        if runs_triggers_inline():
            return self._async_client(await asyncio.to_thread(self.get_connection, self.modelslab_conn_id))
        return self._async_client(await get_async_connection(self.modelslab_conn_id, hook=self))

    def new_async_client(self) -> AsyncModelsLabClient:
        """Like :meth:`get_async_client`, but in a worker, where reading the connection may block.

        :raises AuthenticationError: when the connection has no key.
        """
        return self._async_client(self.connection)

    def _async_client(self, connection: Connection) -> AsyncModelsLabClient:
        from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient

        return AsyncModelsLabClient(self._key(connection), base_url=_base_url(connection), timeouts=self.timeouts)

    def _key(self, connection: Connection) -> str:
        key = (connection.password or "").strip()
        if not key:
            raise AuthenticationError(
                f"The Airflow connection {self.modelslab_conn_id!r} has no API key; put it in the password field"
            )
        return key

    def check_request(self, request: EndpointRequest) -> None:
        """Refuse what this connection's endpoint is known to refuse; nothing is sent.

        :raises InvalidRequestError: for a value above the vendor's limits, where the connection leads to the vendor.
            Other servers of the endpoint have the limits of their models, and check a submit themselves.
        """
        if is_vendor(self.base_url):
            request.check_vendor_limits()

    def submit(
        self, request: EndpointRequest, *, source: str | None = None, lease_ends: float = math.inf
    ) -> tuple[Job, Finished | None]:
        """Submit a job once; from here on it may be billed.

        :param source: recorded instead of the link to the clip: its ``s3://`` object or file.
        :param lease_ends: when a lease of :meth:`submit_lease` ends, in seconds since the epoch. In the minute before
            that nothing is sent, and no response is waited for.
        :return: the job, and its result's links if the job was finished at once.
        :raises SubmissionUnknownError: when the request was sent and no usable response came back.
        :raises ModelsLabError: the subclass for the refusal otherwise.
        """
        from airflow_provider_modelslab.hooks.webhook import with_webhook

        # The webhook's URL contains a secret, so it is only sent, and not in the request that is recorded.
        sent = with_webhook(request, self.extra)
        submitted_at = time.time()
        answer = self.get_conn().submit(sent, ends_by=lease_ends - _LEASE_RESERVE)
        if answer.job_id is None and not isinstance(answer, Finished):
            # The job cannot be fetched without an id, but the response has the result's links: landing waits for them.
            answer = Finished(None, answer.future_links, answer.meta)
        job = Job(
            # A synchronous response with links and no id is a finished job, too; it cannot be fetched again.
            job_id=answer.job_id or "",
            conn_id=self.modelslab_conn_id,
            submitted_at=submitted_at,
            eta=None if isinstance(answer, Finished) else answer.eta,
            request=request.record() | ({request.clip_attribute: source} if source and request.clip_attribute else {}),
            meta=scrub(answer.meta),
        )
        return job, answer if isinstance(answer, Finished) else None

    def submit_lease(self) -> float:
        """The longest time of one :meth:`submit` in seconds, including repeats of refused ones, plus a minute."""
        return longest_submit(self.submit_policy, self.timeouts) + _LEASE_RESERVE

    def fetch(self, job_id: str) -> Answer:
        """Fetch a job's state once, see :meth:`ModelsLabClient.fetch`."""
        return self.get_conn().fetch(job_id)

    def fetch_finished(self, job_id: str) -> Finished:
        """Fetch the answer of a job that is done.

        :raises JobNotFinishedError: while it runs.
        :raises TransportError: when there was no response.
        :raises ModelsLabError: the subclass for the response.
        """
        answer = self.fetch(job_id)
        if isinstance(answer, Finished):
            return answer
        if isinstance(answer, Failed):
            raise answer.to_error(job_id)
        raise JobNotFinishedError(
            f"The job is not done yet (status {answer.status!r}); wait for it with ModelsLabVideo2VideoSensor first",
            job_id=job_id,
        )

    def poll(self, job: Job, *, policy: PollPolicy | None = None) -> Decision:
        """Poll a job once, without a deadline.

        :return: ``Done`` with the answer; ``GiveUp`` with the error, for a job that failed or is lost and for a refused
            key; ``Wait`` while the job runs, and after a poll that failed for another reason.
        :raises AuthenticationError: when the connection has no key.
        """
        from airflow_provider_modelslab.api.polling import JobPoller

        submitted_at = _submission_time(job)
        return self.get_conn().poll(
            JobPoller(job.job_id, submitted_at=submitted_at, deadline=math.inf, eta=job.eta, policy=policy)
        )

    def wait(
        self,
        job: Job,
        *,
        deadline: float,
        policy: PollPolicy | None = None,
        poll_now: bool = False,
        sleep: Callable[[float], object] = time.sleep,
        on_wait: Callable[[Wait], object] | None = None,
    ) -> Finished:
        """Block until the job is done; see :meth:`ModelsLabClient.wait`.

        :param deadline: when to give up, in seconds since the epoch.
        :raises JobTimeoutError: at the deadline; :class:`JobFailedError`, :class:`JobLostError` and the like before.
        """
        return self.get_conn().wait(
            job.job_id,
            submitted_at=_submission_time(job),
            deadline=deadline,
            eta=job.eta,
            policy=policy,
            poll_now=poll_now,
            sleep=sleep,
            on_wait=on_wait,
        )

    def system_details(self) -> dict[str, Any]:
        """State of the video server: ``model_count``, ``queue_time``, ``status``."""
        return self.get_conn().system_details()

    def restart_server(self) -> str:
        """Restart the dedicated video server; running jobs may be lost."""
        return self.get_conn().restart_server()

    def clear_cache(self) -> str:
        """Clear the video server's cache."""
        return self.get_conn().clear_cache()

    def clear_queue(self) -> str:
        """Drop all queued jobs of the dedicated server, of any user, and restart it. Never called automatically."""
        return self.get_conn().clear_queue()

    def test_connection(self) -> tuple[bool, str]:
        """Read the server's state and check the bucket, at no cost; returns success and a message."""
        from airflow_provider_modelslab.hooks.connection_check import check_connection

        return check_connection(self)

    # -- S3 -------------------------------------------------------------------------------------------------------

    @cached_property
    def s3_profile(self) -> S3Profile:
        """The S3 profile in the connection's extra, with the hook's own ``extra_args``."""
        profile = S3Profile.from_extra(self.extra)
        return replace(profile, extra_args={**profile.extra_args, **self.extra_args})

    async def get_async_s3_profile(self) -> S3Profile:
        """The S3 profile, read without blocking the event loop."""
        connection = await get_async_connection(self.modelslab_conn_id, hook=self)
        return S3Profile.from_extra(await get_async_extra_dejson(connection))

    @cached_property
    def _aws_hook(self) -> Any:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        return S3Hook(aws_conn_id=self.s3_profile.aws_conn_id, region_name=self.s3_profile.region)

    @cached_property
    def _store(self) -> S3Profile:
        """The profile with the effective endpoint URL: its own, else that of the AWS connection."""
        profile = self.s3_profile
        endpoint_url = profile.endpoint_url or self._aws_hook.conn_config.get_service_endpoint_url("s3")
        return replace(profile, endpoint_url=endpoint_url, region=profile.region or self._aws_hook.region_name)

    @cached_property
    def _s3_client(self) -> S3Client:
        from airflow_provider_modelslab.storage.obstore_client import with_obstore

        aws, store = self._aws_hook, self._store
        session = self._new_aws_session()
        client = self._client_of(session)
        if store.extra_args or aws.conn_config.botocore_config:  # known to boto alone
            return client
        return with_obstore(client, session, verify=aws.verify, path_addressing=store.is_compatible_store)

    def new_s3_client(self, **options: Any) -> S3Client:
        """A new S3 client.

        :param options: of botocore's ``Config``; they override those of the AWS connection and of the provider.
        """
        return self._client_of(self._new_aws_session(), **options)

    def _new_aws_session(self) -> Any:
        return self._aws_hook.get_session(region_name=self._store.region)

    def _client_of(self, session: Any, **options: Any) -> S3Client:
        from botocore.config import Config

        from airflow_provider_modelslab.storage.boto_session import make_cheaper, send_small_bodies_at_once
        from airflow_provider_modelslab.storage.redirects import stop_redirect_loops

        aws, store = self._aws_hook, self._store
        make_cheaper(session)
        config, given = store.client_config(), aws.conn_config.botocore_config
        if session.get_credentials() is None and not getattr(given, "signature_version", None):
            self._refuse_missing_aws_connection()
        client = session.client(
            "s3",
            endpoint_url=store.endpoint_url,
            # The AWS connection's settings override our defaults.
            config=(config.merge(given) if given else config).merge(Config(**options)),
            verify=aws.verify,
        )
        send_extra_args(client, store.extra_args)
        stop_redirect_loops(client)
        send_small_bodies_at_once(client)
        return cast("S3Client", client)

    def _refuse_missing_aws_connection(self) -> None:
        """Name the connection where there are no credentials because it does not exist.

        :raises StorageConfigurationError: when there is no such connection.
        """
        aws_conn_id = self.s3_profile.aws_conn_id
        try:
            self.get_connection(aws_conn_id)
        except AirflowNotFoundException:
            raise StorageConfigurationError(
                f"There is no AWS connection {aws_conn_id!r}, and boto finds no credentials of its own. Create the "
                f"connection, or set aws_conn_id in the extra of {self.modelslab_conn_id!r}"
            ) from None

    def get_s3_client(self) -> S3Client:
        """A boto3 S3 client with the credentials of the profile's AWS connection, from the Amazon provider's hook."""
        return self._s3_client

    @cached_property
    def link_signer(self) -> LinkSigner:
        """Signs links to clips, with a new session of the AWS connection."""
        from airflow_provider_modelslab.storage.signing import LinkSigner

        return LinkSigner(self.get_s3_client, self.new_s3_client)

    @cached_property
    def _link_session(self) -> requests.Session:
        from airflow_provider_modelslab.storage.download import credential_free_session

        return credential_free_session()

    def land(self, job: Job, finished: Finished, target: S3Uri, *, expected_type: str | None = None) -> dict[str, Any]:
        """Copy a finished job's result to S3, write its sidecar and return the manifest.

        :raises LandingError: when the copy failed; the result is paid for, so trying again costs nothing.
        :raises ResultExpiredError: when the links are dead.
        """
        from airflow_provider_modelslab.storage.landing import land

        landed = land(
            finished.links,
            target,
            self.get_s3_client(),
            expected_type=expected_type,
            job_id=job.job_id,
            submitted_at=job.submitted_at,
            session=self._link_session,
            on_retry=lambda tries, pause, why: self.log.info(
                "No link can be read yet after %d download attempts. Next attempt in %.1f s: %s", tries, pause, why
            ),
        )
        return self.describe_landed(job, finished, landed)

    def describe_landed(self, job: Job, finished: Finished, landed: LandedObject) -> dict[str, Any]:
        """Write the sidecar of an object that has landed and return its manifest.

        :raises LandingError: when S3 refuses the sidecar.
        """
        from airflow_provider_modelslab.storage.sidecar import write_sidecar

        record = {
            "job_id": job.job_id,
            "submitted_at": job.submitted_at,
            "request": job.request,
            "meta": job.meta | finished.meta,
            "seed": seed_of(job, finished),
            "generation_time_s": finished.generation_time,
            **job.cost(finished.generation_time),
            **(job.chain or {}),
        }
        if job.chain:  # what made it is in made_by; the connection of a stored result is the one that leads to it
            job = replace(job, conn_id=self.modelslab_conn_id)
        return landed_manifest(job, finished, landed, write_sidecar(self.get_s3_client(), landed, record))

    def check_bucket(self) -> list[str]:
        """Check that the profile's bucket allows a put, a public ACL and a public read, as the vendor's server needs.

        :return: the steps that passed.
        :raises StorageConfigurationError: naming the permission or setting to change.
        """
        from airflow_provider_modelslab.storage.checks import check_public_bucket

        return check_public_bucket(self.get_s3_client(), self._store)

    def update_s3(self, *, deploy_type: str = "video", check: bool = True) -> str:
        """Set the bucket of the vendor's server to the profile's, with the keys of its AWS connection.

        :param deploy_type: the kind of server; the vendor's own default is ``text_to_image``, ours ``video``.
        :param check: try the bucket first (see :meth:`check_bucket`).
        :return: the server's message.
        """
        # S3Hook.get_credentials, which hides the secret in task logs, fails where the session has none.
        found = self._aws_hook.get_session(region_name=self.s3_profile.region).get_credentials()
        credentials = found and self._aws_hook.get_credentials(region_name=self.s3_profile.region)
        if not credentials or not credentials.access_key:
            raise StorageConfigurationError(
                f"The AWS connection {self.s3_profile.aws_conn_id!r} has no keys. update_s3 sends keys to the vendor: "
                "add the keys of a separate IAM user"
            )
        settings: Mapping[str, str] = self._store.server_settings(
            credentials.access_key, credentials.secret_key, credentials.token
        )
        if check:
            for step in self.check_bucket():
                self.log.info("Bucket check passed: %s", step)
        return self.get_conn().update_s3(settings, deploy_type=deploy_type)

    def reset_s3(self, *, deploy_type: str = "video") -> str:
        """Remove the S3 settings of the vendor's server; its results then expire after 24 hours."""
        return self.get_conn().reset_s3(deploy_type=deploy_type)


def _submission_time(job: Job) -> float:
    """When the job was submitted, in seconds since the epoch; now, if only its id is known."""
    return job.submitted_at if job.submitted_at is not None else time.time()


def _base_url(connection: Connection) -> str:
    """Host, port and scheme of the connection as a base URL; the vendor's when there is no host."""
    if not connection.host:
        return DEFAULT_BASE_URL
    host = str(connection.host)
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    scheme, _, rest = host.partition("://")
    name, slash, path = rest.partition("/")
    if connection.port and not re.search(r":\d+$", name):
        host = f"{scheme}://{name}:{connection.port}{slash}{path}"
    return normalise_base_url(host)
