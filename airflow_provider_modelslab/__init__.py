"""Apache Airflow provider for ModelsLab's Enterprise video-to-video endpoint.

Every Airflow process loads this module to learn what the provider offers, so it imports nothing: hooks, operators and
triggers are named here by path and imported when they are used.
"""

from __future__ import annotations

__all__ = ["__version__", "get_provider_info"]

__version__ = "0.1.0"

_INTEGRATION = "ModelsLab"
_TASK_DECORATORS = (
    "modelslab_video2video",
    "modelslab_video2video_batch",
    "modelslab_local_video2video",
    "modelslab_local_video2video_batch",
)


def get_provider_info() -> dict[str, object]:
    """What Airflow shows and loads of this provider, in the form of its ``provider_info.schema.json``."""
    from airflow_provider_modelslab import connection_form  # plain data, late: it is needed for nothing else

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
        "retry-policies": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_modelslab.retry_policy"],
            }
        ],
        "cli": ["airflow_provider_modelslab.cli.definition.get_modelslab_cli_commands"],
        "extra-links": [
            "airflow_provider_modelslab.links.media.ModelsLabJobLink",
            "airflow_provider_modelslab.links.media.ModelsLabManifestLink",
            "airflow_provider_modelslab.links.media.ModelsLabResultLink",
            "airflow_provider_modelslab.links.media.ModelsLabSourceLink",
        ],
        "plugins": [
            {
                "name": "modelslab_gallery",
                "plugin-class": "airflow_provider_modelslab.plugins.gallery.plugin.ModelsLabGalleryPlugin",
            },
            {
                "name": "modelslab_media",
                "plugin-class": "airflow_provider_modelslab.plugins.media.plugin.ModelsLabMediaPlugin",
            },
            {
                "name": "modelslab_webhook",
                "plugin-class": "airflow_provider_modelslab.plugins.webhook.plugin.ModelsLabWebhookPlugin",
            },
        ],
        "config": {
            "modelslab": {
                "description": "How long tasks wait, what Airflow's UI shows, and what the endpoint's webhooks may do "
                "at the API server.",
                "options": {
                    "min_deferral": {
                        "description": "The minimum number of seconds that a deferred task waits. If a task resumes "
                        "before its executor has reported the end of the process that deferred, Airflow fails the "
                        "task. This report takes up to [workers] min_heartbeat_interval and a loop of the scheduler.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "10",
                    },
                    "media": {
                        "description": "How browsers get the clips in the UI. 'stream': the API server sends them, so "
                        "a browser needs no access to S3. 'presigned': a link to S3 that expires after an hour, which "
                        "takes the traffic off the API server; browsers must reach the bucket and trust its "
                        "certificate.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "presigned",
                        "default": "stream",
                    },
                    "video_tab": {
                        "description": "Whether task instances have the tab Video. Airflow 3.4 shows it only on tasks "
                        "of this provider. Earlier versions show it on all tasks.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "webhook_conn_ids": {
                        "description": "The connections, joined by commas, whose webhooks the API server accepts. "
                        "Each needs a webhook_token in its extra. Empty: nothing is exposed.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "modelslab_default",
                        "default": "",
                    },
                    "webhook_asset": {
                        "description": "The URI of the asset that gets an event for each video that is ready. "
                        "CONN_ID is replaced by the connection id.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "x-videos://CONN_ID/ready",
                        "default": "x-modelslab://CONN_ID/finished",
                    },
                    "webhook_confirmations_per_minute": {
                        "description": "How many webhooks per minute one process of the API server checks at the "
                        "endpoint. It refuses further webhooks.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": None,
                        "default": "300",
                    },
                },
            }
        },
        "task-decorators": [
            {"name": name, "class-name": f"airflow_provider_modelslab.decorators.video2video.{name}_task"}
            for name in _TASK_DECORATORS
        ],
        "connection-types": [
            {
                "connection-type": "modelslab",
                "hook-name": "ModelsLab",
                "hook-class-name": "airflow_provider_modelslab.hooks.modelslab.ModelsLabHook",
                "ui-field-behaviour": {
                    "hidden-fields": connection_form.HIDDEN,
                    "relabeling": connection_form.RELABELING,
                    "placeholders": connection_form.PLACEHOLDERS,
                },
                "conn-fields": connection_form.FIELDS,
            }
        ],
    }
