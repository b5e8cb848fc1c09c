"""What an endpoint's answer to a submit holds that neither XCom nor a deferral takes: the task goes on without it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.integration.tasks.conftest import Restyle, Store
from tests.support.airflow_values import through_deferral, through_xcom
from tests.support.connections import set_modelslab
from tests.support.files_server import FilesServer, ServedFile
from tests.support.samples import small_mp4
from tests.support.scripted_server import Answer, ScriptedServer
from tests.support.tasks import deferral_of, execute

META = (
    '{"nan": NaN, "infinite": -Infinity, "large": 1e999, "big": 18446744073709551616, "huge": 1'
    + "0" * 400
    + ', "\\ud800": "\\udfff", "nul": "\\u0000", "deep": '
    + "[" * 950
    + "]" * 950
    + ', "seed": 11}'
)
ODD = '{"status": "processing", "id": 18446744073709551617, "eta": 1e999, "meta": ' + META + "}"


def test_nan_in_the_meta_of_a_submit_that_nobody_waits_for(restyle: Restyle, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Answer(ODD)) as server:
        set_modelslab(monkeypatch, server.url)
        manifest = execute(restyle(wait_for_completion=False, land_result=False))
    assert server.posts == 1
    assert through_xcom(manifest) == manifest
    assert (manifest["job_id"], manifest["eta_s"]) == ("18446744073709551617", None)
    meta = manifest["meta"]
    assert (meta["nan"], meta["infinite"], meta["large"], meta["seed"]) == (None, None, None, 11)


def test_integers_of_more_than_64_bits_do_not_keep_a_task_from_deferring(
    restyle: Restyle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(ODD)) as server:
        set_modelslab(monkeypatch, server.url)  # without a bucket, so the trigger carries the job itself
        deferred = deferral_of(restyle(deferrable=True, land_result=False))
    trigger, kwargs = through_deferral(deferred.trigger, deferred.kwargs or {})
    assert isinstance(trigger, ModelsLabVideo2VideoTrigger)
    assert trigger.serialize() == deferred.trigger.serialize()
    assert kwargs == deferred.kwargs
    assert trigger.job_id == "18446744073709551617"
    assert trigger.job is not None
    assert trigger.job["meta"]["big"] == "18446744073709551616"


@pytest.mark.usefixtures("s3_connection")
def test_a_surrogate_in_the_name_of_a_meta_field_does_not_keep_a_result_from_landing(
    restyle: Restyle,
    store: Store,
    files: FilesServer,
    s3_extra: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = files.add("/out.mp4", ServedFile(small_mp4(), "video/mp4"))
    done = f'{{"status": "success", "id": 7, "output": ["{link}"], "meta": {META}}}'
    with ScriptedServer(Answer(done)) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        manifest = execute(restyle())
    sidecar = json.loads(store.read(manifest["sidecar_uri"]))
    assert (sidecar["meta"]["?"], sidecar["meta"]["nul"], sidecar["meta"]["nan"]) == ("?", "?", None)
