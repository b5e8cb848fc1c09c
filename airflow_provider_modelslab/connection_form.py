"""The connection form, defined once: Airflow 3.2 and later read it from the provider's metadata, 3.1 from the hook.

Every Airflow process loads the metadata, so nothing is imported here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # that of typing would load re as well
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FIELDS", "HIDDEN", "PLACEHOLDERS", "RELABELING", "field_behaviour", "form_widgets"]

# The port may be in the base URL as well. It is shown because Airflow 3.3.1 and 3.3.2 refuse to test a connection that
# is stored without one (apache/airflow#73298): 443 does no harm there, and is what https has anyway.
HIDDEN = ["login", "schema"]
RELABELING = {"password": "API key", "host": "Base URL"}
PLACEHOLDERS = {
    "host": "https://modelslab.com/api/v1",
    "port": "443",
    "password": "from modelslab.com/dashboard/api-keys",
}

# In "schema", beside JSON Schema's words: Airflow's form knows the formats "password" (the value is masked everywhere)
# and "url", and shows "examples" as proposals while one types. Whatever is left empty is stored as null.
FIELDS: dict[str, dict[str, Any]] = {
    "bucket": {
        "label": "S3 bucket",
        "description": "Where results land if a task names no bucket of its own. The ledger of paid jobs is stored "
        "there: after a change of bucket or prefix, earlier results are not found and are paid for again.",
        "schema": {
            "type": ["string", "null"],
            "minLength": 3,
            "maxLength": 255,
            "pattern": r"^[A-Za-z0-9._\-]{3,255}$",
        },
    },
    "prefix": {
        "label": "S3 prefix",
        "description": "Key prefix inside the bucket, for example clips/styled. Empty: no prefix.",
        "schema": {"type": ["string", "null"], "maxLength": 900},
    },
    "aws_conn_id": {
        "label": "AWS connection",
        "description": "The Airflow connection with the S3 credentials. If it does not exist, boto's default "
        "credentials are used: environment, profile, role of the machine.",
        "schema": {"type": ["string", "null"], "default": "aws_default", "maxLength": 250},
    },
    "region": {
        "label": "S3 region",
        "description": "The bucket's region. Empty: that of the AWS connection.",
        "schema": {
            "type": ["string", "null"],
            "examples": [
                "us-east-1",
                "us-east-2",
                "us-west-2",
                "eu-central-1",
                "eu-west-1",
                "eu-north-1",
                "ap-south-1",
                "ap-southeast-1",
                "ap-southeast-2",
                "ap-northeast-1",
                "sa-east-1",
                "auto",
            ],
        },
    },
    "endpoint_url": {
        "label": "S3 endpoint URL",
        "description": "For S3-compatible stores (Cloudflare R2, MinIO, Ceph...): https://s3.example.com. Empty: AWS.",
        "schema": {"type": ["string", "null"], "format": "url", "pattern": r"^https?://[^\s?#@]+$"},
    },
    "public_url": {
        "label": "Public URL",
        "description": "The public URL of the bucket's objects, if they are public. Links to results use it, and "
        "update_s3 needs it for S3-compatible stores.",
        "schema": {"type": ["string", "null"], "format": "url", "pattern": r"^https?://[^\s?#@]+$"},
    },
    "extra_args": {
        "label": "S3 put arguments",
        "description": "For buckets with special requirements: JSON with arguments of put_object, such as "
        "ServerSideEncryption, SSEKMSKeyId, ACL, Tagging, StorageClass. They are sent with every write, also of the "
        "ledger and of sidecars. RequestPayer is also sent with reads.",
        "schema": {
            "type": ["string", "null"],
            "examples": [
                '{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:..."}',
                '{"ServerSideEncryption": "AES256"}',
                '{"ACL": "bucket-owner-full-control"}',
                '{"RequestPayer": "requester"}',
            ],
        },
    },
    "prices": {
        "label": "Prices",
        "description": "For estimates, caps on cost and bills: JSON with the currency and the prices per_job, "
        "per_frame, per_second (of generation) or per_gpu_second. models has the prices of single models. Empty: jobs "
        "are counted.",
        "schema": {
            "type": ["string", "null"],
            "examples": [
                '{"currency": "EUR", "per_job": "0.10"}',
                '{"currency": "EUR", "per_job": "0.10", "per_frame": "0.005"}',
                '{"currency": "EUR", "per_second": "0.02", "max_seconds": 120}',
            ],
        },
    },
    "budgets": {
        "label": "Budgets",
        "description": "Caps that tasks share by name, as JSON: max_jobs, max_cost or both, per run, day or total. "
        "If a name is not here, the Airflow Variable modelslab_budgets is read.",
        "schema": {
            "type": ["string", "null"],
            "examples": [
                '{"restyle-daily": {"max_jobs": 500, "per": "day", "timezone": "UTC"}}',
                '{"restyle-run": {"max_cost": "50", "per": "run"}}',
            ],
        },
    },
    "catalog": {
        "label": "Model catalog",
        "description": "For tasks on your own GPU: a JSON or YAML file on the worker. It has your names of models, "
        "motion modules and LoRAs.",
        "schema": {"type": ["string", "null"]},
    },
    "webhook_url": {
        "label": "Webhook URL",
        "description": "For webhooks when a job is done: the URL under which the endpoint reaches Airflow's API "
        "server, for example https://airflow.example.com. Empty: tasks poll.",
        "schema": {"type": ["string", "null"], "format": "url", "pattern": r"^https?://[^\s?#@]+$"},
    },
    "webhook_token": {
        "label": "Webhook token",
        "description": "A random text of 32 to 128 letters and digits. A webhook without it is refused. To replace "
        "it, enter NEW,OLD: then the first is sent, and both are accepted.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
}
"""The fields of the extra, by their names there: label, description and JSON Schema of each."""


def field_behaviour() -> dict[str, Any]:
    """The appearance of the standard fields, in the format of a hook (Airflow 3.1)."""
    return {"hidden_fields": [*HIDDEN], "relabeling": {**RELABELING}, "placeholders": {**PLACEHOLDERS}}


def form_widgets() -> dict[str, Any]:
    """The fields of the extra as WTForms fields (Airflow 3.1).

    :raises ImportError: if WTForms is missing; Airflow then shows the extra as JSON only.
    """
    # Imported late and from here, because Airflow's API server replaces these classes with mocks.
    import wtforms  # type: ignore[import-untyped]

    kinds = {"password": "PasswordField"}
    return {
        name: getattr(wtforms, kinds.get(field["schema"].get("format", ""), "StringField"))(
            field["label"], description=field["description"], default=field["schema"].get("default")
        )
        for name, field in FIELDS.items()
    }
