"""Which clip a job belongs to: the first one that had it, as long as its result can be told from another's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_modelslab.api.errors import SubmissionUnknownError
from airflow_provider_modelslab.batch.planning.known_jobs import KnownJobs
from airflow_provider_modelslab.batch.results.index_entry import IndexEntry
from airflow_provider_modelslab.storage.uri import S3Uri

A, B, C = (S3Uri("clips", f"out/{name}.mp4") for name in "abc")
DAY = 24 * 3600.0


def landed(uri: S3Uri, job_id: str | None, at: float) -> IndexEntry:
    return IndexEntry(str(uri), "request", "source", 6, job_id=job_id, landed_at=at)


def owns(jobs: KnownJobs, uri: S3Uri, job_id: str, at: float | None = None) -> bool:
    try:
        jobs.claim(job_id, uri, submitted_at=at)
    except SubmissionUnknownError:
        return False
    return True


def test_a_job_is_the_first_clips() -> None:
    jobs = KnownJobs()
    assert [owns(jobs, uri, "7", 100.0) for uri in (A, B, A, C)] == [True, False, True, False]
    assert owns(jobs, B, "8")
    assert owns(jobs, B, "9")  # a clip may have several, one after the other


def test_the_refusal_names_both() -> None:
    jobs = KnownJobs()
    jobs.claim("7", A, submitted_at=None)
    with pytest.raises(SubmissionUnknownError) as raised:
        jobs.claim("7", B, submitted_at=None)
    assert raised.value.job_id == "7"
    assert all(str(uri) in raised.value.message for uri in (A, B))


def test_jobs_without_an_id_are_nobodys() -> None:
    """Those that were finished at once are known by their links alone."""
    jobs = KnownJobs()
    assert owns(jobs, A, "")
    assert owns(jobs, B, "")


def test_the_id_of_a_result_whose_links_are_dead_may_be_given_out_again() -> None:
    """An endpoint of one's own that has lost its state counts from 1."""
    jobs = KnownJobs()
    jobs.learn_landed([landed(A, "1", 1000.0), landed(B, None, 1000.0)])
    assert not owns(jobs, B, "1", 1000.0 + DAY - 1)
    assert owns(jobs, B, "1", 1000.0 + DAY)
    assert not owns(jobs, C, "1", 1000.0 + DAY)


def test_a_job_that_runs_again_is_its_clips_for_as_long_as_it_runs() -> None:
    jobs = KnownJobs()
    jobs.learn_landed([landed(A, "1", 1000.0)])
    jobs.claim("1", A, submitted_at=900.0)  # its result was deleted, so it is landed once more
    assert not owns(jobs, B, "1", 1000.0 + 2 * DAY)


def test_of_two_results_of_one_job_the_earlier_has_it() -> None:
    jobs = KnownJobs()
    jobs.learn_landed([landed(B, "1", 1001.0), landed(A, "1", 1000.0)])
    assert not owns(jobs, C, "1", 1002.0)
    assert owns(jobs, A, "1", 1002.0)


def test_it_goes_on_in_another_process() -> None:
    jobs, later = KnownJobs(), KnownJobs()
    jobs.learn_landed([landed(A, "1", 1000.0)])
    jobs.claim("2", B, submitted_at=1000.0)
    later.restore(json.loads(json.dumps(jobs.state())))
    assert not owns(later, C, "1", 1000.0 + DAY - 1)
    assert owns(later, C, "1", 1000.0 + DAY)
    assert not owns(later, C, "2", 1000.0 + 9 * DAY)
    assert owns(later, B, "2")


def test_two_connections_may_give_out_the_same_id() -> None:
    jobs = KnownJobs()
    made_at = [{"modelslab_conn_id": name, "model_id": None, "run_on": "endpoint"} for name in ("own", "spare")]
    jobs.learn_landed(
        [replace(landed(uri, "1", 1000.0), made_by=place) for uri, place in zip((A, B), made_at, strict=True)],
        conn_id="own",
    )
    assert [owns(jobs, uri, "1", 1001.0) for uri in (A, B)] == [True, False]
    jobs.claim("1", B, submitted_at=1001.0, conn_id="spare")
    with pytest.raises(SubmissionUnknownError):
        jobs.claim("1", A, submitted_at=1001.0, conn_id="spare")
