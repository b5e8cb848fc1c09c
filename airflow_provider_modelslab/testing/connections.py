"""Airflow connections to the servers of a test, as environment variables."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_modelslab.testing.endpoint import ServedEndpoint
from airflow_provider_modelslab.testing.s3 import Bucket

__all__ = ["connection_variable", "connection_variables"]


def connection_variable(conn_id: str, conn_type: str, **fields: Any) -> tuple[str, str]:
    """The name and value of the environment variable that defines a connection; ``extra`` is a dict."""
    return f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": conn_type, **fields})


def connection_variables(
    endpoint: ServedEndpoint, bucket: Bucket, *, conn_id: str = "modelslab_default", aws_conn_id: str = "aws_default"
) -> dict[str, str]:
    """Both connections, for this process or for an Airflow that a test starts.

    :param conn_id: leads to the endpoint; results without a destination land in the bucket.
    :param aws_conn_id: has the keys of the S3 server, and its certificate authority to trust.
    """
    server = bucket.server
    profile = {"bucket": bucket.name, "region": server.region, "endpoint_url": server.endpoint_url}
    trust = {"verify": str(server.ca_path), "region_name": server.region}
    return dict(
        [
            connection_variable(
                conn_id,
                "modelslab",
                host=endpoint.url,
                password=endpoint.key,
                extra={**profile, "aws_conn_id": aws_conn_id},
            ),
            connection_variable(aws_conn_id, "aws", login=server.access_key, password=server.secret_key, extra=trust),
        ]
    )
