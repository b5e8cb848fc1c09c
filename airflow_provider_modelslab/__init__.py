"""Apache Airflow provider for ModelsLab's Enterprise video-to-video endpoint.

Every Airflow process loads this module to learn what the provider offers, so it imports nothing: hooks, operators and
triggers are named here by path and imported when they are used.
"""

from __future__ import annotations

__all__ = ["__version__", "get_provider_info"]

__version__ = "0.1.0"

_INTEGRATION = "ModelsLab"


def get_provider_info() -> dict[str, object]:
    """What Airflow shows and loads of this provider, in the form of its ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-modelslab",
        "name": "ModelsLab",
        "description": "`ModelsLab <https://modelslab.com/>`__ Enterprise video-to-video: submit, wait, land in S3.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.modelslab.com/enterprise-api/video/videotovideo",
                "tags": ["ai", "generative-ai", "ai-inference", "service"],
            }
        ],
        "hooks": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_modelslab.hooks.modelslab"],
            }
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_modelslab.operators.batch",
                    "airflow_provider_modelslab.operators.land",
                    "airflow_provider_modelslab.operators.local",
                    "airflow_provider_modelslab.operators.local_batch",
                    "airflow_provider_modelslab.operators.plan_clips",
                    "airflow_provider_modelslab.operators.s3_settings",
                    "airflow_provider_modelslab.operators.video2video",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_modelslab.sensors.video2video"],
            }
        ],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_modelslab.triggers.batch",
                    "airflow_provider_modelslab.triggers.video2video",
                ],
            }
        ],
        "connection-types": [
            {
                "connection-type": "modelslab",
                "hook-name": "ModelsLab",
                "hook-class-name": "airflow_provider_modelslab.hooks.modelslab.ModelsLabHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "schema", "port"],
                    "relabeling": {"password": "API key", "host": "Base URL"},
                    "placeholders": {"host": "https://modelslab.com/api/v1"},
                },
                "conn-fields": {
                    "bucket": {
                        "label": "S3 bucket",
                        "description": "Where results land when a task names no bucket of its own.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "prefix": {
                        "label": "S3 prefix",
                        "description": "Key prefix inside the bucket, for example clips/styled.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "aws_conn_id": {
                        "label": "AWS connection",
                        "description": "The Airflow connection that holds the S3 credentials.",
                        "schema": {"type": ["string", "null"], "default": "aws_default"},
                    },
                    "region": {
                        "label": "S3 region",
                        "schema": {"type": ["string", "null"]},
                    },
                    "endpoint_url": {
                        "label": "S3 endpoint URL",
                        "description": "For S3-compatible stores; empty for AWS.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "public_url": {
                        "label": "Public URL",
                        "description": "Where the bucket's objects can be read by anyone; update_s3 needs it.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
            }
        ],
    }
