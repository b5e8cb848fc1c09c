"""The API's requests as values: a URL, a body that contains the key, and the secrets to redact."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
from airflow_provider_modelslab.api.errors import AuthenticationError, InvalidRequestError
from airflow_provider_modelslab.client.config import DEFAULT_BASE_URL, is_vendor, normalise_base_url

__all__ = ["S3_SETTINGS", "ApiRequest", "RequestFactory"]

S3_SETTINGS = (
    "public_url",
    "region_name",
    "endpoint_url",
    "aws_access_key_id",
    "aws_secret_access_key",
    "image_directory",
)
"""What ``update_s3`` needs, besides the key and ``deploy_type``; all are text."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One POST request: this API has no other method, for reads neither.

    :param body: the JSON text; it contains the key.
    :param secrets: texts that must not appear in any log or message about this request.
    """

    url: str
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.url).netloc


class RequestFactory:
    """Builds the requests for one API key at one base URL.

    :param key: the API key; it is sent in the body of each request, as the API demands.
    :raises AuthenticationError: for an empty key.
    :raises InvalidRequestError: for a base URL that cannot work.
    """

    def __init__(self, key: str, base_url: str = DEFAULT_BASE_URL) -> None:
        self._key = str(key or "").strip()
        if not self._key:
            raise AuthenticationError(
                "No API key was given, so nothing was sent. Put the key in the password of the Airflow connection"
            )
        self.base_url = normalise_base_url(base_url)

    def __repr__(self) -> str:
        return f"Calls(base_url={self.base_url!r})"

    def submit(self, request: EndpointRequest) -> ApiRequest:
        """``POST`` to the request's own path, for example ``enterprise/video/video2video``.

        :raises InvalidRequestError: for a value above the vendor's limits, where the base URL is the vendor's.
        """
        if is_vendor(self.base_url):
            request.check_vendor_limits()
        webhook = request.webhook or ""
        # Its last part alone, too: a response may repeat the URL in another spelling. A short part is no secret.
        last = urlsplit(webhook).path.rpartition("/")[2]
        secrets = filter(None, (webhook, last if len(last) >= 16 else ""))
        return self._call(request.path, request.wire(), secrets=secrets, field_name="extra_parameters")

    def fetch(self, job_id: str) -> ApiRequest:
        """``POST enterprise/video/fetch/{id}``, always at the base URL.

        The URL in a response's ``fetch_result`` may name another server, and calling it would send the key there.

        :raises InvalidRequestError: for an empty id.
        """
        text = str(job_id if job_id is not None else "").strip()
        if text in {"", ".", ".."}:
            raise InvalidRequestError.of("job_id", f"must be the id that the submit returned; got {job_id!r}")
        return self._call(f"enterprise/video/fetch/{quote(text, safe='')}")

    def video_server(self, action: str) -> ApiRequest:
        """``POST enterprise/video/{action}``.

        :param action: system_details, restart_server, update_server, clear_cache or clear_queue.
        """
        return self._call(f"enterprise/video/{action}")

    def update_s3(self, settings: Mapping[str, str], *, deploy_type: str = "video") -> ApiRequest:
        """``POST enterprise/update_s3``.

        :param settings: exactly :data:`S3_SETTINGS`.
        :param deploy_type: the kind of server that gets them; the endpoint's own default would be ``text_to_image``.
        :raises InvalidRequestError: naming each setting that is missing, empty or unknown.
        """
        problems = {name: _setting_problem(settings.get(name)) for name in S3_SETTINGS}
        for name in settings:
            if name not in S3_SETTINGS:
                near = difflib.get_close_matches(str(name), S3_SETTINGS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(S3_SETTINGS)}"
                problems[str(name)] = f"is not an S3 setting; {hint}"
        problems["deploy_type"] = _setting_problem(deploy_type)
        found = {name: [text] for name, text in problems.items() if text}
        if found:
            raise InvalidRequestError.of_fields(found)
        return self._call(
            "enterprise/update_s3",
            {**settings, "deploy_type": deploy_type},
            secrets=(settings["aws_access_key_id"], settings["aws_secret_access_key"]),
        )

    def reset_s3(self, *, deploy_type: str = "video") -> ApiRequest:
        """``POST enterprise/reset_s3``."""
        if problem := _setting_problem(deploy_type):
            raise InvalidRequestError.of("deploy_type", problem)
        return self._call("enterprise/reset_s3", {"deploy_type": deploy_type})

    def _call(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        secrets: Iterable[str] = (),
        field_name: str = "body",
    ) -> ApiRequest:
        try:
            text = json.dumps({**(body or {}), "key": self._key}, allow_nan=False)
        except (TypeError, ValueError):
            text = None
        if text is None:
            raise InvalidRequestError.of(field_name, "must be plain JSON: text, finite numbers, lists, dicts")
        return ApiRequest(f"{self.base_url}/{path}", text.encode(), (self._key, *secrets))


def _setting_problem(value: object) -> str:
    if value is None:
        return "is required"
    if not isinstance(value, str):
        return f"must be text; got {type(value).__name__}"
    return "" if value.strip() else "must not be empty"
