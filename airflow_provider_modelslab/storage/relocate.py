"""A result that has landed already, wanted in another place: copied inside S3, without the endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3ErrorKind, kind_of, landing_error
from airflow_provider_modelslab.storage.sidecar import read_sidecar, sidecar_uri
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["is_gone", "relocate"]


def is_gone(s3: S3Client, manifest: Mapping[str, Any]) -> bool:
    """Whether a landed object is no longer in S3: nothing is there, or nothing in it, or another result of ours.

    One that somebody has edited in place counts as there, since what counts as gone may be paid for again; so does
    everything when S3 does not tell. Objects in several parts carry no digest by which another result could be told.

    :param manifest: of the landed result.
    """
    uri = S3Uri.parse(manifest["uri"])
    try:
        head = s3.head_object(Bucket=uri.bucket, Key=uri.key)
    except S3_ERRORS as error:
        return kind_of(error) is S3ErrorKind.NO_OBJECT
    digest = next((text for name, text in head["Metadata"].items() if name.lower() == "sha256"), None)
    is_another = bool(digest and manifest.get("sha256")) and digest != manifest["sha256"]
    return is_another or head["ContentLength"] == 0


def relocate(s3: S3Client, manifest: Mapping[str, Any], target: S3Uri) -> dict[str, Any]:
    """The manifest of the result at ``target``; copied there with its sidecar unless that is where it is.

    :raises LandingError: when S3 refuses the copy.
    """
    uri = S3Uri.parse(manifest["uri"])
    if uri == target:
        return dict(manifest)
    try:
        s3.copy_object(Bucket=target.bucket, Key=target.key, CopySource={"Bucket": uri.bucket, "Key": uri.key})
        sidecar = {**(read_sidecar(s3, uri) or {}), "uri": str(target), "copied_from": str(uri)}
        beside = sidecar_uri(target)
        body = json.dumps(sidecar, indent=2).encode()
        s3.put_object(Bucket=beside.bucket, Key=beside.key, Body=body, ContentType="application/json")
    except S3_ERRORS as error:
        raise landing_error(error, target) from error
    return {**manifest, "uri": str(target), "sidecar_uri": str(beside)}
