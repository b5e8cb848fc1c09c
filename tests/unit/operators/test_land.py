from __future__ import annotations

import pytest
from airflow.sdk import DAG, task

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.s3_settings import ModelsLabResetS3Operator, ModelsLabUpdateS3Operator
from tests.support.connections import set_modelslab
from tests.support.tasks import execute


def test_what_is_templated() -> None:
    assert ModelsLabVideo2VideoToS3Operator.template_fields == ("job", "destination", "modelslab_conn_id", "extra_args")
    assert ModelsLabUpdateS3Operator.template_fields == ("modelslab_conn_id", "deploy_type", "extra_args")
    assert ModelsLabResetS3Operator.template_fields == ("modelslab_conn_id", "deploy_type")
    for operator in (ModelsLabUpdateS3Operator, ModelsLabResetS3Operator):
        assert operator(task_id="t").deploy_type == "video"  # the vendor's own default is another server


@pytest.mark.parametrize("job", [None, "", "  ", {}, {"job_id": ""}, ["7"], True, 7.5])
def test_what_is_no_job(job: object, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, bucket="clips")
    with pytest.raises(InvalidRequestError, match="job: needs a job id, or the manifest"):
        execute(ModelsLabVideo2VideoToS3Operator(task_id="land", job=job))


def test_a_manifest_that_was_rendered_to_text(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, bucket="clips")
    with pytest.raises(InvalidRequestError, match=r"a template turned into text; pass the other task's \.output"):
        execute(ModelsLabVideo2VideoToS3Operator(task_id="land", job=str({"job_id": "7"})))


def test_a_place_without_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch)
    job = {"job_id": "7", "links": ["https://example.com/out.mp4"]}
    with pytest.raises(
        StorageConfigurationError, match="neither the task nor the connection 'modelslab_default' names"
    ):
        execute(ModelsLabVideo2VideoToS3Operator(task_id="land", job=job))
    with pytest.raises(StorageConfigurationError, match="'day/' has no bucket"):
        execute(ModelsLabVideo2VideoToS3Operator(task_id="land", job=job, destination="day/"))
    with pytest.raises(StorageConfigurationError, match="expected s3://bucket/key"):
        ModelsLabVideo2VideoToS3Operator(task_id="land", job=job, destination="s3://")


def test_it_lands_each_of_many_jobs() -> None:
    with DAG("dag", schedule=None):

        @task
        def jobs() -> list[str]:
            return ["7", "8"]

        mapped = ModelsLabVideo2VideoToS3Operator.partial(task_id="land", destination="day/").expand(job=jobs())
    made = mapped.unmap({"job": "8"})
    assert isinstance(made, ModelsLabVideo2VideoToS3Operator)
    assert (made.job, made.destination) == ("8", "day/")
