"""The commands through Airflow's own parser, against a real endpoint and a real S3 server."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_modelslab.cli import progress
from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.conftest import FRAMES, Restyle, Store, WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.s3 import S3Server, keys_of, refusing
from tests.support.shell import Shell
from tests.support.tasks import RUN_ID, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")


def test_a_clip_is_submitted_watched_and_landed(
    submit: Callable[..., Any], airflow: Shell, engine: WatchedEngine, store: Store, bucket: str
) -> None:
    manifest = submit("--seed", "7", "--use-improved-sampling")
    assert manifest["uri"] == f"s3://{bucket}/out.mp4"
    assert manifest["seed"] == 7  # a number stays one
    assert store.frames(manifest["uri"]) == FRAMES
    (sent,) = engine.submitted
    assert (sent.seed, sent.num_frames, sent.use_improved_sampling, sent.instant_response) == (7, FRAMES, True, True)
    assert sent.track_id == f"cli/{bucket}/out.mp4/submission1"
    # What it pays for, the track id before it is sent, the job's id right after it.
    told = [
        "This pays for one job at http://127.0.0.1",
        "Submitting it as track_id cli/",
        "Submitted as job ",
        "Landed",
    ]
    assert [airflow.err.index(text) for text in told] == sorted(airflow.err.index(text) for text in told)


def test_the_same_command_again_pays_nothing_until_told(
    submit: Callable[..., Any], airflow: Shell, engine: WatchedEngine
) -> None:
    first = submit()
    assert submit() == first
    assert "The result of submission 1 is already there" in airflow.err
    assert len(engine.submitted) == 1
    second = submit("--again")
    assert second["job_id"] != first["job_id"]
    assert len(engine.submitted) == 2


def test_another_request_does_not_overwrite_unasked(
    submit: Callable[..., Any], engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    submit()
    assert "already exists" in submit(prompt="a wolf", code=1)
    assert len(engine.submitted) == 1
    submit("--overwrite", prompt="a wolf")
    assert [request.prompt for request in engine.submitted] == ["a fox", "a wolf"]


def test_a_batch_finds_what_the_command_paid_for(
    submit: Callable[..., Any], engine: WatchedEngine, clip: str, bucket: str
) -> None:
    from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator

    submit(to=f"s3://{bucket}/results/in.mp4")

    def make() -> ModelsLabVideo2VideoBatchOperator:
        return ModelsLabVideo2VideoBatchOperator(
            task_id="restyle",
            source=[clip],
            destination=f"s3://{bucket}/results/",
            model_id="dark-sushi-mix",
            prompt="a fox",
            num_frames=FRAMES,
        )

    summary = run(make)
    assert (summary["found"], summary["skipped"]) == (1, 1)
    assert len(engine.submitted) == 1


def test_nothing_is_sent_without_a_yes(
    airflow: Shell, engine: WatchedEngine, clip: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("submit", clip, "--model-id", "x", "--prompt", "a fox", "--to", f"s3://{bucket}/out.mp4")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert airflow(*line) == 2
    assert "add --yes" in airflow.err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert airflow(*line) == 1
    assert "Submit it? [y/N]" in airflow.err
    assert engine.submitted == []
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert airflow(*line) == 0
    assert len(engine.submitted) == 1


class Terminal(io.StringIO):
    """A stdin at which somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--num-frames", "0"), "--num-frames: must be at least 1; got '0'"),
        (("--strength", "much"), "--strength: must be a number; got 'much'"),
        (("--extra-parameters", '{"key": "x"}'), "--extra-parameters: key: must not be in extra_parameters"),
        (("--to", "gs://bucket/out.mp4"), "--to: gs:// is not supported"),
        (("--to", "s3://no-such-bucket-anywhere/out.mp4"), "does not exist"),
        (("--conn-id", "nobody"), "The conn_id `nobody` isn't defined"),
        (("--request", "/nowhere.json"), "--request: /nowhere.json cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_costs_nothing(
    words: tuple[str, ...], told: str, submit: Callable[..., Any], engine: WatchedEngine, bucket: str, s3: S3Client
) -> None:
    message = submit(*words, code=1)
    assert message.startswith("error: ")
    assert told in message
    assert "Traceback" not in message
    assert engine.submitted == []
    assert [key for key in keys_of(s3, bucket) if "claim" in key] == []


@pytest.mark.parametrize("command", ["submit", "plan"])
def test_a_limit_of_the_vendor_is_checked_for_free(
    command: str, airflow: Shell, clip: str, bucket: str, s3: S3Client, s3_extra: dict[str, Any],
    engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    set_modelslab(monkeypatch, **s3_extra)  # at the vendor
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens
    s3.put_object(Bucket=bucket, Key="in/a.mp4", Body=b"not read")
    source, name = (clip, "--num-frames") if command == "submit" else (f"s3://{bucket}/in/", "num_frames")
    given = ["--model-id", "x", "--prompt", "a fox", "--num-frames", "99", "--to", f"s3://{bucket}/out/"]
    assert airflow(command, source, *given, *(["--yes"] if command == "submit" else [])) == 1
    assert f"{name}: must be at most 25; got 99" in airflow.err
    assert keys_of(s3, bucket) == ["in/a.mp4"]
    assert engine.submitted == []


def test_a_request_comes_from_a_file_or_a_pipe_and_flags_go_before_it(
    airflow: Shell, engine: WatchedEngine, clip: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"model_id": "dark-sushi-mix", "prompt": "a wolf", "init_video": clip, "num_frames": FRAMES, "seed": 3}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    line = ("submit", "--request", "-", "--prompt", "a fox", "--to", f"s3://{bucket}/made/", "--yes")
    manifest = airflow.json(*line)
    assert manifest["uri"] == f"s3://{bucket}/made/in.mp4"
    assert [(sent.prompt, sent.seed) for sent in engine.submitted] == [("a fox", 3)]


def test_a_job_that_fails_is_told_and_may_be_paid_for_again(
    submit: Callable[..., Any], airflow: Shell, engine: WatchedEngine, bucket: str
) -> None:
    assert "error: " in submit(prompt="unreadable", code=1)
    shown = airflow.json("ledger", "show", f"s3://{bucket}/out.mp4")
    assert [row["entry"] for row in shown[0]["entries"]] == ["claim", "job", "failed"]
    assert "makes submission 2 and pays for it" in shown[0]["next"]
    submit(prompt="unreadable", code=1)
    assert len(engine.submitted) == 2


def test_an_unknown_submission_asks_a_person_who_answers_on_the_command_line(
    submit: Callable[..., Any], airflow: Shell, bucket: str, engine: WatchedEngine
) -> None:
    message = _lost_answer(submit)
    assert "--adopt 1=" in message
    assert "--resubmit 1" in message
    assert len(engine.submitted) == 1
    assert "--adopt 1=" in submit(code=1)  # still nobody said anything
    assert len(engine.submitted) == 1
    assert "--adopt 1=" in airflow.json("ledger", "show", f"s3://{bucket}/out.mp4")[0]["next"]
    manifest = submit("--adopt", "1=1")
    assert manifest["job_id"] == "1"
    assert len(engine.submitted) == 1


@pytest.mark.slow
def test_what_is_said_of_one_submission_holds_for_no_later_one(
    submit: Callable[..., Any], engine: WatchedEngine
) -> None:
    _lost_answer(submit)
    assert "--resubmit 2" in _lost_answer(submit, "--resubmit", "1")
    assert len(engine.submitted) == 2
    for said in (("--resubmit", "1"), ("--adopt", "1=1"), ("--resubmit", "7")):
        assert "--resubmit 2" in submit(*said, code=1)
    assert len(engine.submitted) == 2
    assert submit("--adopt", "2=2")["job_id"] == "2"
    assert len(engine.submitted) == 2


@pytest.mark.parametrize("said", [("--resubmit", "0"), ("--resubmit", "-1"), ("--resubmit", "yes"), ("--adopt", "1")])
def test_a_person_names_the_submission(submit: Callable[..., Any], said: tuple[str, str]) -> None:
    submit(*said, code=2)


def _lost_answer(submit: Callable[..., Any], *said: str) -> str:
    """The job arrives, and its answer is lost on the way back."""
    with pytest.MonkeyPatch.context() as patch:
        real = requests.Response.iter_content

        def cut(self: requests.Response, *args: Any, **kwargs: Any) -> Any:
            if self.url.endswith("/video2video"):
                raise requests.ConnectionError("cut")
            return real(self, *args, **kwargs)

        patch.setattr(requests.Response, "iter_content", cut)
        message: str = submit(*said, code=1)
    return message


@pytest.mark.slow
def test_not_waiting_leaves_a_job_to_show_and_land(
    submit: Callable[..., Any], airflow: Shell, engine: WatchedEngine, gate: threading.Event, bucket: str
) -> None:
    manifest = submit("--no-wait")
    assert manifest["status"] == "submitted"
    job = manifest["job_id"]
    assert f"airflow modelslab land {job} --to s3://{bucket}/out.mp4" in airflow.err
    assert airflow.json("show", job, code=3)["state"] == "running"
    told = airflow.json("ledger", "show", f"s3://{bucket}/out.mp4")[0]["next"]
    assert told.startswith(f"The next attempt pays for nothing: it waits for job {job}")
    gate.set()
    shown = airflow.json("show", job, "--watch")
    assert shown["state"] == "finished"
    assert requests.get(shown["links"][0], timeout=60).status_code == 200
    landed = airflow.json("land", job, "--to", f"s3://{bucket}/out.mp4")
    assert landed["model_id"] == "dark-sushi-mix"  # as the ledger has it; the endpoint does not repeat it
    # The ledger of submit knows, so submit has nothing left to do.
    assert submit()["sha256"] == landed["sha256"]
    assert len(engine.submitted) == 1
    assert airflow("land", job, "--to", f"s3://{bucket}/out.mp4") == 1
    assert "replace it with --overwrite" in airflow.err


def test_a_job_that_the_endpoint_does_not_know(airflow: Shell, bucket: str) -> None:
    assert airflow.json("show", "999", code=1)["code"] == "job_lost"
    assert airflow("land", "999", "--to", f"s3://{bucket}/out.mp4") == 1
    assert "does not know this job" in airflow.err


def test_interrupting_the_wait_says_how_to_go_on(
    submit: Callable[..., Any], airflow: Shell, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress._Progress, "show", pressed)
        message = submit(code=130)
    assert "keeps running without this command, and is billed" in message
    assert "show 1 --watch" in message
    gate.set()
    manifest = submit()
    assert manifest["job_id"] == "1"
    assert "Continuing with job 1, which is already paid for" in airflow.err


@pytest.mark.slow
def test_the_ledger_of_a_task_is_read(airflow: Shell, restyle: Restyle, s3: S3Client, bucket: str) -> None:
    manifest = run(restyle)
    task = ("--dag-id", "restyling", "--task-id", "restyle", "--run-id", RUN_ID)
    (shown,) = airflow.json("ledger", "show", *task)
    assert [(row["submission"], row["entry"]) for row in shown["entries"]] == [(1, "claim"), (1, "job"), (1, "landed")]
    assert f"restyling.restyle in {RUN_ID}, try 1" in shown["entries"][0]["what"]
    assert f"job {manifest['job_id']}" in shown["entries"][1]["what"]
    assert shown["next"].startswith(f"A retry pays for nothing: the result of submission 1 is at {manifest['uri']}")
    assert shown == airflow.json("ledger", "show", manifest["uri"])[0]  # it is named after the result
    assert airflow("ledger", "show", shown["ledger"]) == 0  # as a table
    assert manifest["uri"] in airflow.out
    assert "A retry pays for nothing" in airflow.err
    assert airflow("ledger", "show", shown["ledger"].rpartition("/")[0]) == 1
    assert airflow("ledger", "show", "--dag-id", "restyling") == 1
    assert airflow("ledger", "show", f"s3://{bucket}/nothing.mp4") == 1
    assert "There is no ledger at" in airflow.err


def test_the_ledger_of_a_task_whose_result_has_no_destination_is_read(airflow: Shell, restyle: Restyle) -> None:
    manifest = run(lambda: restyle(land_result=False))
    task = ("--dag-id", "restyling", "--task-id", "restyle", "--run-id", RUN_ID)
    (shown,) = airflow.json("ledger", "show", *task)
    assert [row["entry"] for row in shown["entries"]] == ["claim", "job"]
    assert f"waits for job {manifest['job_id']}" in shown["next"]


def test_the_ledger_tells_what_to_set_for_a_task_of_unknown_outcome(airflow: Shell, s3: S3Client, bucket: str) -> None:
    place = S3Uri(bucket, "results/a.mp4")
    root = S3Uri(bucket, "styled/_modelslab/ledger")
    folder = result_folder(root, place)
    claim = {
        "version": 1,
        "identity_version": 1,
        "request": "0" * 64,
        "source": None,
        "attempt": {
            "dag_id": "restyling",
            "task_id": "restyle",
            "run_id": "run1",
            "map_index": 2,
            "try_number": 1,
        },
        "process": {"host": "elsewhere", "pid": 7},
        "claimed_at": "2026-11-23T04:00:00.000+00:00",
        "expires_at": 0,
        "name": "restyling.restyle[2]/run1/results/a.mp4/submission1",
        "track_id": "t-1",
        "billed": True,
    }
    s3.put_object(Bucket=bucket, Key=f"{folder.key}/0001-claim.json", Body=json.dumps(claim).encode())
    told = airflow.json("ledger", "show", str(place))[0]["next"]
    assert "track_id 't-1'" in told
    assert 'modelslab_submissions to {"restyling.restyle[2]/run1/results/a.mp4/submission1": "<the job\'s id>"}' in told


def test_check_finds_everything_in_order(airflow: Shell, s3: S3Client, bucket: str) -> None:
    found = {row["check"]: row["result"] for row in airflow.json("check", "--write")}
    assert set(found.values()) == {"ok"}
    assert {"connection", "key", "video server", "bucket", "s3:PutObject", "conditional puts"} <= set(found)
    assert [key for key in keys_of(s3, bucket) if "modelslab-check" in key] == []


def test_check_writes_nothing_unasked(airflow: Shell, s3: S3Client, bucket: str) -> None:
    found = {row["check"]: row["result"] for row in airflow.json("check")}
    assert found["s3:PutObject"] == found["conditional puts"] == "warn"
    assert keys_of(s3, bucket) == []


def test_check_names_what_is_wrong(
    airflow: Shell, endpoint: Caller, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_modelslab(monkeypatch, endpoint.url, conn_id="wrong_key", key="not-the-key", **s3_extra)
    set_modelslab(monkeypatch, endpoint.url, conn_id="no_key", key=None)
    set_modelslab(monkeypatch, endpoint.url, conn_id="no_bucket_there", **{**s3_extra, "bucket": "nobody-has-this"})
    wrong = {row["check"]: row for row in airflow.json("check", "--conn-id", "wrong_key", code=1)}
    assert wrong["video server"]["result"] == "error"
    assert "Check the API key" in wrong["video server"]["detail"]
    none = {row["check"]: row["result"] for row in airflow.json("check", "--conn-id", "no_key", code=1)}
    assert none == {"connection": "ok", "key": "error", "bucket": "warn"}
    gone = {row["check"]: row for row in airflow.json("check", "--conn-id", "no_bucket_there", code=1)}
    assert "does not exist" in gone["bucket"]["detail"]


def test_check_tells_a_refused_write(airflow: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

    hook = ModelsLabHook()
    client = hook.get_s3_client()
    monkeypatch.setattr(ModelsLabHook, "get_s3_client", lambda _: client)
    with refusing(client, "PutObject", 403, "AccessDenied"):
        found = {row["check"]: row for row in airflow.json("check", "--write", code=1)}
    assert "grant s3:PutObject" in found["s3:PutObject"]["detail"]
    assert found["conditional puts"]["result"] == "error"


def test_the_server_is_changed_only_when_asked(
    airflow: Shell, engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert airflow.json("server")["model_count"] == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert airflow("server", "clear-cache") == 2
    assert not engine.cleared.is_set()
    assert airflow.json("server", "clear-cache", "--yes")["action"] == "clear-cache"
    assert engine.cleared.wait(60)


def test_formats(airflow: Shell, s3_server: S3Server) -> None:
    for output in ("table", "plain", "yaml"):
        assert airflow("check", "--output", output) == 0
        assert "video server" in airflow.out
    assert airflow("server", "--output", "yaml") == 0
    assert "model_count: 1" in airflow.out
