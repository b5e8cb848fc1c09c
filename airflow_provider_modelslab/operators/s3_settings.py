"""Tell the vendor's dedicated video server where to store results, or make it forget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_modelslab.api.suggestions import SuggestArguments
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["ModelsLabResetS3Operator", "ModelsLabUpdateS3Operator"]


class ModelsLabUpdateS3Operator(SuggestArguments, BaseOperator):
    """Send the S3 profile of the connection to the server, so that results go to your bucket and do not expire.

    The access keys are those of the profile's AWS connection. The vendor stores them. So use a separate AWS user that
    may only list, put and get objects in this bucket and set their ACL.

    :param modelslab_conn_id: the Airflow connection (templated).
    :param deploy_type: which kind of dedicated server (templated); ``video`` for this endpoint.
    :param check_bucket: first test that the bucket allows a put, a public ACL and a public read.
    :param extra_args: arguments of ``put_object`` for the file of this test (templated), see
        :class:`~airflow_provider_modelslab.operators.destination_arguments.DestinationArguments`. The vendor's server
        sends no such arguments, so the bucket must not require any.
    :raises StorageConfigurationError: with the setting or permission to change.
    """

    template_fields: Sequence[str] = ("modelslab_conn_id", "deploy_type", "extra_args")
    ui_color = "#efe8fb"

    def __init__(
        self,
        *,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        deploy_type: str = "video",
        check_bucket: bool = True,
        extra_args: Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.modelslab_conn_id = modelslab_conn_id
        self.deploy_type = deploy_type
        self.check_bucket = check_bucket
        self.extra_args = extra_args

    def execute(self, context: Context) -> str:
        """Check the bucket, then send the settings; returns the server's message."""
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

        hook = ModelsLabHook(self.modelslab_conn_id, extra_args=self.extra_args)
        return hook.update_s3(deploy_type=self.deploy_type, check=self.check_bucket)


class ModelsLabResetS3Operator(SuggestArguments, BaseOperator):
    """Delete the S3 details from the server. Later results are kept in the vendor's storage, for 24 hours.

    :param modelslab_conn_id: the Airflow connection (templated).
    :param deploy_type: which kind of dedicated server (templated); ``video`` for this endpoint.
    """

    template_fields: Sequence[str] = ("modelslab_conn_id", "deploy_type")
    ui_color = "#efe8fb"

    def __init__(
        self,
        *,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        deploy_type: str = "video",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.modelslab_conn_id = modelslab_conn_id
        self.deploy_type = deploy_type

    def execute(self, context: Context) -> str:
        """Send the reset; returns the server's message."""
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

        return ModelsLabHook(self.modelslab_conn_id).reset_s3(deploy_type=self.deploy_type)
