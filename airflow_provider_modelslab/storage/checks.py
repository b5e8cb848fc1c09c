"""Checks of a bucket before anything is paid for; errors name the setting to change."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.download import LinkFailure, credential_free_session, open_link, read_start
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3ErrorKind, kind_of, storage_error
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.s3_removal import UnfinishedUpload, abort_upload
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

__all__ = ["check_public_bucket", "require_listing", "require_writable"]

_TIMEOUT = (10.0, 30.0)


def require_listing(s3: S3Client, prefix: S3Uri) -> str | None:
    """Make sure that the objects below a prefix can be listed, as ledgers are; returns the bucket's region if known.

    ``HeadBucket`` would need a permission for the whole bucket.

    :raises StorageConfigurationError: when the bucket does not exist, or may not be listed there.
    :raises StorageUnavailableError: when S3 cannot be reached.
    """
    try:
        answer = s3.list_objects_v2(Bucket=prefix.bucket, Prefix=prefix.key, MaxKeys=1)
    except S3_ERRORS as error:
        raise storage_error(error, prefix) from error
    return answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")


def require_writable(s3: S3Client, target: S3Uri) -> None:
    """Make sure that a result can be put there: begin an upload with all arguments of the put, and abort it.

    Nothing becomes visible, and nothing is billed. This tests a policy for the prefix, the encryption key, ACLs, tags
    and the storage class as the put of the result would. If it is denied, an empty ``_modelslab/check.txt`` beside the
    result is put: Ceph passes the encryption of a put only, not of an upload, to policies.

    :raises StorageConfigurationError: when S3 refuses, or the bucket does not exist.
    :raises StorageUnavailableError: when S3 has trouble.
    """
    try:
        begun = s3.create_multipart_upload(Bucket=target.bucket, Key=target.key)
    except S3_ERRORS as error:
        if kind_of(error) is S3ErrorKind.NOT_IMPLEMENTED:
            return  # a store without multipart uploads: only the put of the result can show it
        if kind_of(error) is S3ErrorKind.ACCESS_DENIED and _may_put_beside(s3, target):
            return
        raise storage_error(error, target) from error
    problem = abort_upload(s3, target.bucket, UnfinishedUpload(target.key, begun["UploadId"], 0.0))
    if problem is not None:
        log.warning("An empty upload of %s stays until a lifecycle rule removes it: %s", target, problem)


def _may_put_beside(s3: S3Client, target: S3Uri) -> bool:
    folder = target.key[: target.key.rfind("/") + 1]
    try:
        s3.put_object(Bucket=target.bucket, Key=f"{folder}_modelslab/check.txt", Body=b"", ContentType="text/plain")
    except S3_ERRORS:
        return False
    return True


def check_public_bucket(s3: S3Client, profile: S3Profile, session: requests.Session | None = None) -> list[str]:
    """Do once what ModelsLab's own server will do: put a file, make it public, and read it anonymously.

    :param profile: with ``bucket``; the file goes to its directory and is removed in any case.
    :return: the steps that were done, for the log.
    :raises StorageConfigurationError: naming the permission or the setting to change.
    """
    folder = profile.uri() if profile.prefix else profile.uri(f"{profile.directory}/")
    target = folder.child(f"modelslab-check-{secrets.token_hex(8)}.txt")
    where: dict[str, Any] = {"Bucket": target.bucket, "Key": target.key}
    public_url = profile.public_base() + target.key.rpartition("/")[2]
    content = secrets.token_hex(16).encode()
    steps = [_check_region(s3, folder)]
    _call(target, lambda: s3.put_object(**where, Body=content, ContentType="text/plain"))
    try:
        steps.append(f"put {target}")
        steps.append(_make_public(s3, target))
        _read_anonymously(public_url, content, session)
        steps.append(f"read {public_url} without credentials")
    except BaseException:
        try:
            s3.delete_object(**where)
        except S3_ERRORS as error:
            log.warning("Could not delete the probe %s: %s", target, error)
        raise
    _call(target, lambda: s3.delete_object(**where))
    steps.append(f"deleted {target}")
    return steps


def _check_region(s3: S3Client, prefix: S3Uri) -> str:
    # boto follows AWS's redirect to the right region silently. ModelsLab's server does not.
    try:
        region = require_listing(s3, prefix)
    except StorageConfigurationError as error:
        if error.http_status != 403:
            raise
        return f"{prefix} cannot be listed, but the server does not need this"
    if region and region != s3.meta.region_name and "amazonaws.com" in s3.meta.endpoint_url:
        raise StorageConfigurationError(
            f"The bucket {prefix.bucket!r} is in region {region}, but the connection names {s3.meta.region_name}: "
            f"set region to {region}"
        )
    return f"listed {prefix}"


def _make_public(s3: S3Client, target: S3Uri) -> str:
    try:
        s3.put_object_acl(Bucket=target.bucket, Key=target.key, ACL="public-read")
    except S3_ERRORS as error:
        if kind_of(error) is S3ErrorKind.NOT_IMPLEMENTED:
            # R2 and others have no ACL per object, only public buckets; the read below checks it.
            return "the store has no ACLs for objects, so the bucket itself must be public"
        raise storage_error(error, target) from error
    return "made it public with PutObjectAcl"


def _read_anonymously(url: str, content: bytes, session: requests.Session | None) -> None:
    own_session = session or credential_free_session()
    failure: LinkFailure | None = None
    read = b""
    try:
        with open_link(own_session, url, timeout=_TIMEOUT) as response:
            read = read_start(response, len(content) + 1)
    except LinkFailure as error:
        failure = error
    finally:
        if session is None:
            own_session.close()
    if failure:
        advice = (
            "let anyone read it: switch off Block Public Access (IgnorePublicAcls, RestrictPublicBuckets), or allow "
            "s3:GetObject for everyone in the bucket policy"
            if failure.status in {401, 403}
            else "correct public_url: it must lead to the directory that ModelsLab's server writes to"
        )
        raise StorageConfigurationError(
            f"{url} cannot be read without credentials ({failure.reason}): {advice}", http_status=failure.status
        )
    if read != content:
        raise StorageConfigurationError(
            f"{url} does not return the content that was put there: correct public_url, which must lead to the "
            "directory that ModelsLab's server writes to, without a cache or a web page in between"
        )


def _call(target: S3Uri, call: Callable[[], object]) -> None:
    try:
        call()
    except S3_ERRORS as error:
        raise storage_error(error, target) from error
