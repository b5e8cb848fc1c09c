"""Let the vendor's dedicated video server store results in your own bucket, where they do not expire.

The bucket, its public URL and the AWS connection with the keys are in the extra of the ModelsLab connection. Run it
once, and again whenever one of them changes. The server keeps the keys: give it a user that may use this bucket only.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_modelslab.operators.s3_settings import ModelsLabUpdateS3Operator

with DAG(dag_id="modelslab_update_s3", schedule=None, tags=["modelslab", "example"], doc_md=__doc__):
    # [START howto_operator_modelslab_update_s3]
    ModelsLabUpdateS3Operator(task_id="update_s3", deploy_type="video")
    # [END howto_operator_modelslab_update_s3]
