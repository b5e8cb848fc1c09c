"""Every Python and console block of the pages runs, against a real endpoint and a real S3, or says why not."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.cli import progress
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.integration.docs.code_blocks import DAY, ROOT, CodeBlocks, is_part_of_an_example, pages
from tests.support.connections import KEY, set_aws, set_modelslab
from tests.support.endpoint import Caller, serving
from tests.support.endpoint_engine import ScriptedEngine
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import S3Server
from tests.support.samples import small_mp4

BUCKET = "my-bucket"

SKIPPED = {
    "CONTRIBUTING.md": 1,
    "README.md": 2,
    "docs/explanation/cost.md": 1,
    "docs/explanation/ledger.md": 1,
    "docs/howto/endpoint.md": 1,
    "docs/howto/executors.md": 3,
    "docs/howto/install.md": 1,
    "docs/howto/local.md": 1,
    "docs/howto/testing.md": 1,
    "docs/howto/webhook.md": 1,
    "docs/tutorial.md": 3,
}
"""How many blocks of each page are not run; each says why."""

EXAMPLES = 20
"""Blocks that are parts of the example Dags, which ``tests/system/test_examples.py`` runs."""


class Terminal(io.StringIO):
    """A terminal at which somebody answers every question with yes."""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        return "y\n"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    state = tmp_path_factory.mktemp("state")
    settings = Settings(state_dir=state, api_keys=(KEY,), hold_s=120, allow_private_addresses=True)
    with serving(settings, ScriptedEngine()) as caller:
        yield caller


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    """The bucket of the pages, with a clip."""
    s3 = s3_server.client()
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=f"in/{DAY:%Y-%m-%d}.mp4", Body=small_mp4())
    s3.close()
    return BUCKET


@pytest.fixture(scope="module")
def tables() -> Iterator[None]:
    """Airflow's tables, for connections, pools and variables."""
    from airflow import settings
    from airflow.models import import_all_models
    from airflow.models.base import Base

    import_all_models()
    engine = settings.engine
    assert engine is not None
    Base.metadata.create_all(engine)
    yield
    engine.dispose()
    Path(str(engine.url.database)).unlink()


@pytest.fixture
def database(tables: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tables without connections."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    monkeypatch.setenv("AIRFLOW__DATABASE__CHECK_MIGRATIONS", "False")
    yield
    with create_session() as session:
        session.query(Connection).delete()


@pytest.fixture
def blocks(
    endpoint: Caller,
    bucket: str,
    database: None,
    files: FilesServer,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> CodeBlocks:
    """Connections to the endpoint and the bucket, a finished job, and a clip in the working directory."""
    store: dict[str, Any] = {"region": s3_server.region, "endpoint_url": s3_server.endpoint_url}
    set_aws(monkeypatch, s3_server)
    set_modelslab(monkeypatch, endpoint.url, bucket=bucket, prefix="restyled", **store)
    monkeypatch.setenv("MODELSLAB_API_KEY", KEY)
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")
    monkeypatch.setattr(progress, "INTERVALS", (0.02, 0.1))
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").write_bytes(small_mp4())
    link = files.add("/in.mp4", ServedFile(small_mp4(), "video/mp4"))
    job = str(endpoint.submit(init_video=link)["id"])
    endpoint.finished(job)
    return CodeBlocks(tmp_path, {"12345678": job, "https://example.com/in.mp4": link})


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run(blocks: CodeBlocks, path: Path) -> None:
    blocks.run(path)


def test_blocks_that_do_not_run_are_counted_and_say_why() -> None:
    skipped: dict[str, int] = {}
    examples = 0
    for path in pages():
        for example in CodeBlocks(ROOT).parse(path).examples():
            if isinstance(example.parsed, tuple):
                action, reason = example.parsed
                assert action == "next"
                assert len(ast.literal_eval(reason).split()) >= 3
                name = path.relative_to(ROOT).as_posix()
                skipped[name] = skipped.get(name, 0) + 1
            else:
                examples += is_part_of_an_example(example)
    assert skipped == SKIPPED
    assert examples == EXAMPLES
