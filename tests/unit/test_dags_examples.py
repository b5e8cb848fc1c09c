"""The example Dags as Airflow's Dag processor sees them."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import sys
import warnings
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import pytest
from airflow.sdk import DAG, AssetAll

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import MODEL_IDS
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from tests.support.airflow_versions import AIRFLOW, DagSerialization, examples_bag
from tools.stack.endpoint import EndpointProcess
from tools.stack.whole import POOLS

EXAMPLES = Path(__file__).resolve().parents[2] / "dags_examples"


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on Airflow 3.1 this import warns of a deprecated one of Airflow's own
        importlib.import_module("airflow.providers.standard.operators.hitl")
        warnings.simplefilter("error")
        bag = examples_bag(EXAMPLES)
    assert bag.import_errors == {}
    assert bag.captured_warnings == {}
    found: dict[str, DAG] = bag.dags
    return found


def test_each_file_has_the_dag_of_its_name(dags: dict[str, DAG]) -> None:
    files = {path.stem for path in EXAMPLES.glob("*.py")} - ({"modelslab_loop"} if AIRFLOW < (3, 4) else set())
    assert all(any(dag_id.startswith(stem) for dag_id in dags) for stem in files)
    assert all(any(dag_id.startswith(stem) for stem in files) for dag_id in dags)
    for dag in dags.values():
        # A paid call never runs by itself; what starts by an asset's event only uses what has been made.
        started_by_events = type(dag.timetable).__name__ == "AssetTriggeredTimetable"
        assert started_by_events or not dag.timetable.can_be_scheduled
        assert "modelslab" in dag.tags
        assert dag.doc_md


def operators(dag: DAG) -> dict[str, str]:
    return {task.task_id: type(task).__name__ for task in dag.tasks}


def order(dag: DAG) -> list[str]:
    return [task.task_id for task in dag.topological_sort()]


def test_the_main_dag(dags: dict[str, DAG]) -> None:
    dag = dags["modelslab_video2video"]
    assert operators(dag)["restyle"] == "ModelsLabVideo2VideoOperator"
    assert order(dag) == ["restyle", "use"]
    assert dag.get_task("use").upstream_task_ids == {"restyle"}
    assert getattr(dag.get_task("restyle"), "deferrable", None) is True


def test_the_dag_with_the_sensor(dags: dict[str, DAG]) -> None:
    dag = dags["modelslab_video2video_sensor"]
    assert operators(dag) == {
        "submit": "ModelsLabVideo2VideoOperator",
        "wait": "ModelsLabVideo2VideoSensor",
        "land": "ModelsLabVideo2VideoToS3Operator",
    }
    assert order(dag) == ["submit", "wait", "land"]
    assert getattr(dag.get_task("submit"), "wait_for_completion", None) is False


def test_the_dag_for_update_s3(dags: dict[str, DAG]) -> None:
    assert operators(dags["modelslab_update_s3"]) == {"update_s3": "ModelsLabUpdateS3Operator"}


def test_the_dags_of_batches(dags: dict[str, DAG]) -> None:
    assert operators(dags["modelslab_batch"])["restyle"] == "ModelsLabVideo2VideoBatchOperator"
    assert order(dags["modelslab_batch"]) == ["restyle", "use"]
    assert getattr(dags["modelslab_batch"].get_task("restyle"), "deferrable", None) is True
    mapped = dags["modelslab_batch_mapped"]
    assert order(mapped) == ["clips", "restyle"]
    assert mapped.get_task("restyle").is_mapped
    local = dags["modelslab_local_batch"].get_task("restyle")
    assert (type(local).__name__, local.pool, local.queue) == ("LocalVideo2VideoBatchOperator", "gpus", "gpu")


def test_the_dag_that_asks_a_person(dags: dict[str, DAG]) -> None:
    dag = dags["modelslab_sample_then_approve"]
    assert order(dag) == ["sample", "approve", "rest"]
    assert operators(dag)["approve"] == "ApprovalOperator"
    sample, rest = (vars(dag.get_task(name)) for name in ("sample", "rest"))
    selection = ("limit", "sample", "sample_seed")
    assert [rest[name] for name in selection] == [None, None, None]
    named = {name for name in ModelsLabVideo2VideoBatchOperator.template_fields if name not in selection}
    assert {name: sample[name] for name in named} == {name: rest[name] for name in named}


def test_the_dag_with_pools(dags: dict[str, DAG]) -> None:
    dag = dags["modelslab_gpu_pool"]
    assert operators(dag) == {"own_gpu": "LocalVideo2VideoOperator", "endpoint": "ModelsLabVideo2VideoOperator"}
    own_gpu, endpoint = dag.get_task("own_gpu"), dag.get_task("endpoint")
    assert (own_gpu.queue, own_gpu.pool) == ("gpu", "gpus")
    assert (endpoint.queue, endpoint.pool) == ("default", "modelslab")
    assert getattr(endpoint, "deferrable", None) is True


def test_its_pod_asks_for_a_gpu_where_there_is_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    def pod_override() -> Any:
        return runpy.run_path(str(EXAMPLES / "modelslab_gpu_pool.py"))["ON_ONE_GPU"].get("pod_override")

    monkeypatch.setitem(sys.modules, "kubernetes", None)  # as where it is not installed
    assert pod_override() is None

    for name in ("kubernetes", "kubernetes.client"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    names = ("V1Container", "V1Pod", "V1PodSpec", "V1ResourceRequirements")
    models = SimpleNamespace(**dict.fromkeys(names, SimpleNamespace))  # their keyword arguments, and no more
    monkeypatch.setattr(sys.modules["kubernetes.client"], "models", models, raising=False)
    (container,) = pod_override().spec.containers
    assert container.name == "base"  # the executor merges it into the container of this name
    assert container.resources.limits == {"nvidia.com/gpu": "1"}


def test_the_dags_of_assets(dags: dict[str, DAG]) -> None:
    restyle = dags["modelslab_assets"].get_task("restyle")
    assert [type(outlet).__name__ for outlet in restyle.outlets] == ["Asset", "AssetAlias"]
    downstream: Any = dags["modelslab_assets_downstream"].timetable
    assert isinstance(downstream.asset_condition, AssetAll)
    assert list(downstream.asset_condition.objects) == restyle.outlets[:1]


def test_what_follows_an_asset_loses_no_video(dags: dict[str, DAG]) -> None:
    task: Any = dags["modelslab_assets_downstream"].get_task("publish")
    landed = {"uri": "s3://bucket/new.mp4", "sha256": "1" * 64, "reused": False}
    # Of a worker that died between the landing and its event, the retry's event is the only one.
    found = {"uri": "s3://bucket/found.mp4", "sha256": "2" * 64, "reused": True}
    by_hand: dict[str, Any] = {}
    restyled = dags["modelslab_assets"].get_task("restyle").outlets[0]

    class Events:  # a mapping by assets, which Airflow 3.1 cannot hash
        def __getitem__(self, asset: object) -> list[SimpleNamespace]:
            assert asset == restyled
            return [SimpleNamespace(extra=extra) for extra in (landed, by_hand, found)]

    assert task.python_callable(triggering_asset_events=Events()) == [landed, found]


def test_what_pays_or_lands_is_tried_again(dags: dict[str, DAG]) -> None:
    # A worker that is lost fails its task; the next try goes on with what is paid for.
    tasks = {(dag.dag_id, task.task_id): task for dag in dags.values() for task in dag.tasks}
    ours = {name: task for name, task in tasks.items() if "Video2Video" in task.operator_class.__name__}
    assert len(ours) == (17 if AIRFLOW >= (3, 4) else 16)
    assert {name: task.retries for name, task in ours.items() if task.retries != 2} == {}


@pytest.mark.parametrize("dag_id", ["modelslab_gpu_pool", "modelslab_local_batch"])
def test_what_runs_on_an_own_gpu_finds_its_model(dags: dict[str, DAG], dag_id: str) -> None:
    catalog = Catalog(None)
    catalog.lookup(dags[dag_id].params["model_id"])  # refused where it is published as pickles alone
    with pytest.raises(InvalidRequestError, match="pickle"):
        catalog.lookup("dark-sushi-mix")


def test_the_model_that_ships_can_do_what_is_asked_by_default(dags: dict[str, DAG]) -> None:
    params = dags["modelslab_local_batch"].params
    assert params["model_id"] == "demo"
    assert {128 <= params[name] <= 288 for name in ("width", "height")} == {True}  # see local/demo/README.md
    styles = {"neon", "sketch", "watercolour", "poster"}
    assert styles & set(str(params["prompt"]).split())


PAYING = ("ModelsLabVideo2VideoOperator", "ModelsLabVideo2VideoBatchOperator")


def test_each_video_keeps_the_shape_of_the_clip_and_its_look_can_be_chosen(dags: dict[str, DAG]) -> None:
    with av.open(str(EXAMPLES / "media" / "clip.mp4"), "r") as clip:
        aspect = Fraction(clip.streams.video[0].width, clip.streams.video[0].height)
    making = [dag for dag in dags.values() if "prompt" in dag.params or "strength" in dag.params]
    assert len(making) == (11 if AIRFLOW >= (3, 4) else 10)
    for dag in making:
        assert Fraction(dag.params["width"], dag.params["height"]) == aspect, dag.dag_id
        assert (dag.params["seed"], dag.params["strength"]) == (None, 0.5), dag.dag_id


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="there are no retry policies")
def test_no_retry_where_none_helps(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        for task in dag.tasks:
            if task.operator_class.__name__.startswith(PAYING):
                policy = getattr(task, "retry_policy", None) or vars(task)["partial_kwargs"]["retry_policy"]
                assert type(policy).__name__ == "ModelsLabRetryPolicy", (dag.dag_id, task.task_id)


def test_the_stack_of_the_demo_has_their_pools_and_the_models_of_the_page() -> None:
    named = set(re.findall(r'pool="(\w+)"', "".join(path.read_text() for path in EXAMPLES.glob("*.py"))))
    assert named == {name for name, _ in POOLS}
    assert "my-bucket" not in "".join(path.read_text() for path in EXAMPLES.glob("*.py"))
    process = EndpointProcess(Path("none"), key="k").process
    assert {word for word in process.command if word.startswith("--alias")} == {
        f"--alias={name}=demo" for name in MODEL_IDS
    }


def test_the_dag_of_functions(dags: dict[str, DAG]) -> None:
    dag = dags["modelslab_taskflow"]
    assert order(dag) == ["restyle", "again"]
    assert dag.get_task("restyle").is_mapped
    assert operators(dag)["again"] == "Video2VideoBatchDecoratedOperator"


def test_the_clip_is_there(dags: dict[str, DAG]) -> None:
    for dag_id in ("modelslab_video2video", "modelslab_video2video_sensor", "modelslab_gpu_pool"):
        assert Path(dags[dag_id].params["clip"]).is_file()


def test_they_survive_serialization(dags: dict[str, DAG]) -> None:
    # What the scheduler and the UI work with, and what refuses values that are no plain JSON.
    for dag in dags.values():
        stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        assert DagSerialization.from_dict(stored).task_ids == dag.task_ids


def test_what_the_documents_quote_is_marked() -> None:
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text()
        assert text.count("# [START howto_") == text.count("# [END howto_") > 0
