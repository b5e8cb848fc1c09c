"""``ledger resolve``: many submissions of unknown outcome at once, and what the next attempts then do."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.conftest import Restyle, Store, WatchedEngine
from tests.support.s3 import keys_of, refusing
from tests.support.shell import Shell
from tests.support.task_state import TaskState
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")

OUTAGE = datetime(2026, 11, 29, 10, tzinfo=UTC)
RESOLVE = ("ledger", "resolve", "--unknown", "--since", "2026-11-29T10:00Z", "--as", "resubmit")
UNKNOWN = {"error": {"code": "submission_unknown", "message": "HTTP 503"}}
JOB = {"job_id": "7", "conn_id": "modelslab_default"}


class Ledgers:
    """Ledgers of one connection, put directly."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self.root = S3Uri(bucket, "styled/_modelslab/ledger")
        self._bucket = bucket

    def folder(self, name: str) -> S3Uri:
        return result_folder(self.root, self.destination(name))

    def destination(self, name: str) -> S3Uri:
        return S3Uri(self._bucket, f"styled/{name}.mp4")

    def put(
        self,
        name: str,
        entries: dict[str, dict[str, Any]] | None = None,
        *,
        at: datetime = OUTAGE,
        lease: float = 0.0,
        dag_id: str = "restyling",
    ) -> None:
        claim = {
            "version": 1,
            "identity_version": 1,
            "request": "0" * 64,
            "source": None,
            "attempt": {"dag_id": dag_id, "task_id": "restyle", "run_id": name, "map_index": -1, "try_number": 1},
            "process": {"host": "elsewhere", "pid": 7},
            "claimed_at": at.isoformat(timespec="milliseconds"),
            "expires_at": lease,
            "name": f"{dag_id}.restyle/{name}/submission1",
            "track_id": f"track-{name}",
            "billed": True,
        }
        for entry, content in {"0001-claim": claim, **(entries or {})}.items():
            body = json.dumps({"version": 1, **content}).encode()
            self._s3.put_object(Bucket=self._bucket, Key=f"{self.folder(name).key}/{entry}.json", Body=body)

    def names(self, name: str) -> set[str]:
        head = f"{self.folder(name).key}/"
        found = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=head).get("Contents", [])
        return {item["Key"][len(head) :].removesuffix(".json") for item in found}


@pytest.fixture
def ledgers(s3: S3Client, bucket: str) -> Ledgers:
    return Ledgers(s3, bucket)


@pytest.mark.slow
def test_500_ledgers_of_an_outage_are_resolved_at_once(airflow: Shell, ledgers: Ledgers, s3: S3Client) -> None:
    live = time.time() + 3600
    kinds: dict[str, tuple[int, Callable[[str], None]]] = {
        "unknown": (180, lambda name: ledgers.put(name, {"0001-unknown": UNKNOWN})),
        "died": (40, ledgers.put),
        "live": (60, lambda name: ledgers.put(name, lease=live)),
        "running": (50, lambda name: ledgers.put(name, {"0001-unknown": UNKNOWN, "0001-job": JOB})),
        "landed": (50, lambda name: ledgers.put(name, {"0001-job": JOB, "0001-landed": {"manifest": {}}})),
        "resolved": (50, lambda name: ledgers.put(name, {"0001-unknown": UNKNOWN, "0001-resolved": {}})),
        "released": (30, lambda name: ledgers.put(name, {"0001-released": UNKNOWN})),
        "before": (
            20,
            lambda name: ledgers.put(name, {"0001-unknown": UNKNOWN}, at=OUTAGE - timedelta(seconds=1)),
        ),
        "other": (20, lambda name: ledgers.put(name, {"0001-unknown": UNKNOWN}, dag_id="another")),
    }
    made = [(f"{kind}-{index}", put) for kind, (count, put) in kinds.items() for index in range(count)]
    assert len(made) == 500
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: each[1](each[0]), made))

    done = airflow.json(*RESOLVE, "--dag-id", "restyling", "--yes")
    assert Counter(row["result"] for row in done) == {"resubmit": 220}
    assert "60 more submissions may still be in progress" in airflow.err
    for kind, (count, _) in kinds.items():
        wanted = kind in {"unknown", "died", "resolved"}
        assert [("0001-resolved" in ledgers.names(f"{kind}-{index}")) for index in (0, count - 1)] == [wanted] * 2
    entry = json.loads(
        s3.get_object(Bucket=ledgers.root.bucket, Key=f"{ledgers.folder('died-3').key}/0001-resolved.json")[
            "Body"
        ].read()
    )
    assert (entry["decision"], entry["version"]) == ("resubmit", 1)
    assert "@" in entry["by"]


def test_a_dry_run_lists_and_writes_nothing(airflow: Shell, ledgers: Ledgers) -> None:
    ledgers.put("a", {"0001-unknown": UNKNOWN})
    ledgers.put("died")
    ledgers.put("live", lease=time.time() + 3600)
    rows = airflow.json(*RESOLVE, "--dry-run")
    assert {row["track_id"]: row["result"] for row in rows} == {"track-a": "unknown", "track-died": "unknown"}
    assert next(row for row in rows if row["track_id"] == "track-a") == {
        "name": "restyling.restyle/a/submission1",
        "track_id": "track-a",
        "claimed_at": "2026-11-29T10:00:00.000+00:00",
        "answered": "submission_unknown: HTTP 503",
        "ledger": str(ledgers.folder("a")),
        "submission": 1,
        "result": "unknown",
    }
    assert "1 more submissions may still be in progress" in airflow.err
    assert all("0001-resolved" not in ledgers.names(name) for name in ("a", "died", "live"))


def test_times_and_the_question(airflow: Shell, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers.put("a", {"0001-unknown": UNKNOWN})
    ledgers.put("b", {"0001-unknown": UNKNOWN}, at=OUTAGE + timedelta(hours=2))
    until = ("--until", "2026-11-29T12:00:00+01:00")  # 11:00 UTC
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert airflow(*RESOLVE, *until) == 2
    assert "pay for up to 1 jobs" not in airflow.out
    assert ledgers.names("a") == {"0001-claim", "0001-unknown"}
    (row,) = airflow.json(*RESOLVE, *until, "--yes")
    assert row["track_id"] == "track-a"
    assert "0001-resolved" not in ledgers.names("b")
    assert airflow("ledger", "resolve", "--unknown", "--as", "resubmit", "--yes") == 1  # all of them: not by accident
    assert "0001-resolved" not in ledgers.names("b")


def test_an_outcome_that_is_written_before_the_answer_is_left_alone(
    airflow: Shell, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers.put("a", {"0001-unknown": UNKNOWN})
    ledgers.put("b", {"0001-unknown": UNKNOWN})

    class Hesitating(io.StringIO):
        def isatty(self) -> bool:
            return True

        def readline(self, *_: Any) -> str:  # type: ignore[override]  # as in typeshed
            ledgers.put("a", {"0001-job": JOB})
            ledgers.put("b", {"0002-claim": {"expires_at": time.time() + 60}})  # a task that was told "resubmit"
            return "y\n"

    monkeypatch.setattr("sys.stdin", Hesitating())
    rows = airflow.json(*RESOLVE)
    assert "pay for up to 2 jobs" in airflow.err
    assert {row["result"] for row in rows} == {"changed in the meantime, not written"}
    assert all("0001-resolved" not in ledgers.names(name) for name in "ab")


@pytest.mark.slow
def test_a_ledger_that_cannot_be_written_fails_alone(
    airflow: Shell, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

    ledgers.put("a", {"0001-unknown": UNKNOWN})
    ledgers.put("b", {"0001-unknown": UNKNOWN})
    assert len(airflow.json(*RESOLVE, "--dry-run")) == 2  # whether the store honours conditions is known by now
    airflow("check", "--write")
    client = ModelsLabHook().get_s3_client()
    monkeypatch.setattr(ModelsLabHook, "get_s3_client", lambda _: client)
    with refusing(client, "PutObject", 403, "AccessDenied", times=1):
        rows = airflow.json(*RESOLVE, "--yes", code=1)
    assert sorted(row["result"].partition(":")[0] for row in rows) == ["error", "resubmit"]


def test_what_is_no_ledger_is_passed_over(airflow: Shell, ledgers: Ledgers, s3: S3Client, bucket: str) -> None:
    ledgers.put("a", {"0001-unknown": UNKNOWN})
    ledgers.put("broken", {"0001-unknown": UNKNOWN})
    s3.put_object(Bucket=bucket, Key=f"{ledgers.folder('broken').key}/0001-claim.json", Body=b"no JSON")
    for key in ("results/notes.txt", f"results/{'0' * 64}/0001-claim.txt", "results/0001-claim.json", "index/x.gz"):
        s3.put_object(Bucket=bucket, Key=f"{ledgers.root.key}/{key}", Body=b"x")
    (row,) = airflow.json(*RESOLVE, "--dry-run")
    assert row["track_id"] == "track-a"
    assert str(ledgers.folder("broken")) in airflow.err


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_task_of_unknown_outcome_that_is_resolved_submits_once(
    mirrored: bool, airflow: Shell, restyle: Restyle, engine: WatchedEngine, store: Store, s3: S3Client, bucket: str
) -> None:
    context = with_state(TaskState() if mirrored else None)
    with pytest.raises(AirflowFailException), answer_lost():
        execute(restyle(deferrable=False), context)
    assert len(engine.submitted) == 1
    with pytest.raises(AirflowFailException):
        execute(restyle(deferrable=False), context)  # still nobody said anything
    since = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    line = ("ledger", "resolve", "--unknown", "--since", since, "--dag-id", "restyling", "--as", "resubmit", "--yes")
    (row,) = airflow.json(*line)
    assert (row["name"], row["result"]) == (engine.submitted[0].track_id, "resubmit")
    manifest = execute(restyle(deferrable=False), context)
    assert len(engine.submitted) == 2
    assert engine.submitted[1].track_id == str(engine.submitted[0].track_id).replace("submission1", "submission2")
    assert execute(restyle(deferrable=False), context)["sha256"] == manifest["sha256"]
    assert len(engine.submitted) == 2
    assert airflow.json(*line) == []
    (shown,) = airflow.json("ledger", "show", manifest["uri"])
    assert [row["entry"] for row in shown["entries"]] == ["claim", "unknown", "resolved", "claim", "job", "landed"]
    assert len([key for key in keys_of(s3, bucket) if key.endswith("-resolved.json")]) == 1


@pytest.mark.slow
def test_the_job_that_a_person_found_is_waited_for(
    airflow: Shell, restyle: Restyle, engine: WatchedEngine, ledgers: Ledgers
) -> None:
    with pytest.raises(AirflowFailException), answer_lost():
        execute(restyle(deferrable=False))
    ledgers.put("another", {"0001-unknown": UNKNOWN})
    place = [row["ledger"] for row in airflow.json(*RESOLVE, "--dry-run") if row["track_id"] != "track-another"]
    since = ("ledger", "resolve", "--unknown", "--since", "2026-11-29T10:00Z")
    assert airflow(*since, "--as", "1", "--yes") == 2  # two submissions, one job
    assert (
        airflow("ledger", "resolve", "--unknown", *place, "--as", "999", "--yes") == 1
    )  # the endpoint has no such job
    (row,) = airflow.json("ledger", "resolve", "--unknown", *place, "--as", "1", "--yes")
    assert row["result"] == "1"
    manifest = execute(restyle(deferrable=False))
    assert (manifest["job_id"], len(engine.submitted)) == ("1", 1)


def with_state(state: TaskState | None) -> Context:
    context = context_of(TaskInstance())
    return cast("Context", {**context, "task_state_store": state}) if state else context


class answer_lost:  # noqa: N801 - reads as a context manager
    """The job arrives, and its answer is lost on the way back."""

    def __enter__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        real = requests.Response.iter_content

        def cut(response: requests.Response, *args: Any, **kwargs: Any) -> Iterator[bytes]:
            if response.url.endswith("/video2video"):
                raise requests.ConnectionError("cut")
            return cast("Iterator[bytes]", real(response, *args, **kwargs))

        self._patch.setattr(requests.Response, "iter_content", cut)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
