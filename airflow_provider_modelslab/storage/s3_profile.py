"""The S3 settings, used for boto clients, destination URIs and the S3 settings of ModelsLab's server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_modelslab import __version__
from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.extra_args import checked_extra_args
from airflow_provider_modelslab.storage.uri import S3Uri, check_bucket_name

if TYPE_CHECKING:
    from botocore.config import Config

__all__ = ["S3Profile"]

_DEFAULT_DIRECTORY = "generations"
_LEDGER = "_modelslab/ledger"
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class S3Profile:
    """The bucket of the results and the access to its store. Contains no credentials.

    :param bucket: the bucket of results, if a task names none of its own.
    :param prefix: key prefix inside the bucket; slashes at its ends do not matter.
    :param aws_conn_id: the Airflow connection that holds the S3 credentials.
    :param region: the bucket's region, for example ``eu-central-1``; stores without regions take ``us-east-1`` or
        ``auto``. In a connection's extra it is by default that of the AWS connection.
    :param endpoint_url: the store's URL for S3-compatible stores; ``None`` for AWS. May also be in the AWS connection.
    :param public_url: the public URL of the bucket's objects; links to results then use it, and ``update_s3`` needs it
        for S3-compatible stores.
    :param extra_args: arguments of ``put_object`` for every write, see
        :mod:`~airflow_provider_modelslab.storage.extra_args`.
    :raises StorageConfigurationError: for an illegal bucket name, an invalid URL, or unsupported ``extra_args``.
    """

    bucket: str | None = None
    prefix: str = ""
    aws_conn_id: str = "aws_default"
    region: str | None = None
    endpoint_url: str | None = None
    public_url: str | None = None
    extra_args: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra_args", checked_extra_args(self.extra_args))
        object.__setattr__(self, "prefix", self.prefix.strip("/"))
        if self.bucket is not None:
            check_bucket_name(self.bucket)
        for name in ("endpoint_url", "public_url"):
            url = getattr(self, name)
            if url is not None:
                object.__setattr__(self, name, _checked_url(name, url))

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any] | None) -> S3Profile:
        """Read the extra of an Airflow connection: blank and ``null`` mean not set, unknown keys are ignored."""
        given = extra or {}
        names = [f.name for f in fields(cls) if f.name != "extra_args"]
        values = {name: str(given.get(name) or "").strip() for name in names}
        return cls(
            **{name: value for name, value in values.items() if value},
            extra_args=checked_extra_args(given.get("extra_args")),
        )

    @property
    def is_compatible_store(self) -> bool:
        """Whether this is an S3-compatible store rather than AWS."""
        return self.endpoint_url is not None

    @property
    def directory(self) -> str:
        """The directory that ModelsLab's server writes to: the prefix, or ``generations`` as in the vendor's page."""
        return self.prefix or _DEFAULT_DIRECTORY

    def client_config(self) -> Config:
        """The boto configuration for this store.

        Compatible stores get path addressing, because a host per bucket needs DNS and a wildcard certificate, and no
        default checksums: over TLS these travel as a trailer, which several stores answer with 411. The landing sends
        SHA-256 or MD5 in a header instead. AWS keeps its default checksums, and virtual addressing is set
        explicitly: only then do presigned links use the region's own host, which works immediately after a bucket is
        created.
        """
        from botocore.config import Config  # late: every DAG that uses the hook imports this module

        common: dict[str, Any] = {
            "region_name": self.region,
            "signature_version": "s3v4",
            "retries": {"mode": "standard", "total_max_attempts": 5},
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 16,
            # boto builds its own one anew for each call, which takes a quarter of a small call's CPU time.
            "user_agent": f"airflow-provider-modelslab/{__version__}",
        }
        if not self.is_compatible_store:
            return Config(**common, s3={"addressing_style": "virtual"})
        return Config(
            **common,
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )

    def uri(self, key: str = "") -> S3Uri:
        """``key`` under the prefix in the bucket.

        :raises StorageConfigurationError: when the profile has no bucket.
        """
        root = S3Uri(self._required("bucket"), f"{self.prefix}/" if self.prefix else "")
        return root.child(key) if key else root

    def public_base(self) -> str:
        """The URL under which anyone can read what ModelsLab's server writes; ends with ``/<directory>/``.

        :raises StorageConfigurationError: when it is unknown: a compatible store needs ``public_url``.
        """
        if self.public_url:
            base = self.public_url.rstrip("/")
        elif self.is_compatible_store:
            raise _missing("public_url", "the host of an S3-compatible store is unknown")
        else:
            base = self._bucket_endpoint()
        return f"{base}/" if base.endswith(f"/{self.directory}") else f"{base}/{self.directory}/"

    def public_link(self, uri: S3Uri) -> str | None:
        """The public URL of an object in this bucket; ``None`` without ``public_url``, and for other buckets."""
        if not self.public_url or uri.bucket != self.bucket:
            return None
        return f"{self.public_base().removesuffix(f'/{self.directory}/')}/{quote(uri.key)}"

    def ledger_root(self, target: S3Uri | None) -> S3Uri | None:
        """The folder of all ledgers: below the bucket and prefix, else in the bucket of a task's destination."""
        if self.bucket:
            return self.uri(_LEDGER)
        return S3Uri(target.bucket, _LEDGER) if target is not None else None

    def server_settings(self, access_key: str, secret_key: str, token: str | None = None) -> dict[str, str]:
        """The body of the vendor's ``update_s3`` without ``key`` and ``deploy_type``. It holds the secret.

        :param token: the session token that came with the keys, if any; it is refused.
        :raises StorageConfigurationError: naming what is missing, or for temporary credentials.
        """
        if token:
            raise StorageConfigurationError(
                "These AWS credentials are temporary (they have a session token). ModelsLab's server stores an access "
                f"key and a secret key for good, so give the connection {self.aws_conn_id!r} the keys of an IAM user"
            )
        if not access_key or not secret_key:
            raise StorageConfigurationError(
                f"The connection {self.aws_conn_id!r} gives no access key and secret key to store on ModelsLab's server"
            )
        return {
            "public_url": self.public_base(),
            "region_name": self._required("region"),
            "endpoint_url": self._bucket_endpoint(),
            "aws_access_key_id": access_key,
            "aws_secret_access_key": secret_key,
            "image_directory": self.directory,
        }

    def _bucket_endpoint(self) -> str:
        bucket = self._required("bucket")
        if self.endpoint_url:
            return f"{self.endpoint_url}/{bucket}"
        host = f"s3.{self._required('region')}.amazonaws.com"
        # Names that are no host names, or that AWS's certificate does not cover, go into the path.
        return f"https://{bucket}.{host}" if _HOST_LABEL.fullmatch(bucket) else f"https://{host}/{bucket}"

    def _required(self, name: str) -> str:
        value = getattr(self, name)
        if not value:
            raise _missing(name, "without it the location in S3 is unknown")
        return str(value)


def _missing(name: str, why: str) -> StorageConfigurationError:
    return StorageConfigurationError(
        f"The S3 settings have no {name}: {why}. Set it in the extra of the ModelsLab connection or at the operator"
    )


def _checked_url(name: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or "@" in parts.netloc:
        raise StorageConfigurationError(
            f"{name} must be an http(s) URL without user, password and query; got one that begins {url[:8]!r}"
        )
    return url.rstrip("/")
