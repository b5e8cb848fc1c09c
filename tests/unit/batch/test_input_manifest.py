from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.batch.sources.input_manifest import is_manifest, read_manifest


def no_s3() -> NoReturn:
    raise AssertionError("a local file needs no S3")


def written(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


def clips_of(folder: Path, name: str, content: str | bytes) -> list[tuple[str, dict[str, Any], str | None, int]]:
    clips = read_manifest(written(folder, name, content), no_s3)
    return [(clip.source, dict(clip.overrides), clip.destination, clip.number) for clip in clips.clips]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_json_lines(tmp_path: Path, suffix: str) -> None:
    lines = [
        {"init_video": "s3://src/a.mp4", "prompt": "a", "seed": 3, "strength": None},
        {"uri": "https://host/b.gif?sig=1", "destination": "b.mp4"},
        {"source": "s3://src/c.mp4", "extra_parameters": {"x": 1}},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(line) for line in lines) + '\n"s3://src/d.mp4"'
    assert clips_of(tmp_path, f"clips.jsonl{suffix}", text) == [
        ("s3://src/a.mp4", {"prompt": "a", "seed": 3}, None, 1),
        ("https://host/b.gif?sig=1", {}, "b.mp4", 3),
        ("s3://src/c.mp4", {"extra_parameters": {"x": 1}}, None, 5),
        ("s3://src/d.mp4", {}, None, 6),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_csv(tmp_path: Path, delimiter: str, suffix: str) -> None:
    rows = [
        ["init_video", "prompt", "seed", "extra_parameters"],
        ["s3://src/a.mp4", f'"oil{delimiter} thick"', "5", ""],
        ["", "", "", ""],
        ["s3://src/b.mp4", "", " ", '"{""x"": 1}"'],
    ]
    text = "\ufeff" + "\r\n".join(delimiter.join(row) for row in rows)
    assert clips_of(tmp_path, f"clips.csv{suffix}", text) == [
        ("s3://src/a.mp4", {"prompt": f"oil{delimiter} thick", "seed": "5"}, None, 2),
        ("s3://src/b.mp4", {"extra_parameters": {"x": 1}}, None, 4),
    ]


def test_a_cell_of_several_lines_keeps_the_count(tmp_path: Path) -> None:
    text = 'init_video,prompt\ns3://src/a.mp4,"two\nlines"\ns3://src/b.mp4,one\n'
    assert [number for *_, number in clips_of(tmp_path, "clips.csv", text)] == [3, 4]


@pytest.mark.parametrize("blank", ["\r\n", "\n\n  \n", ";;\n", " , \n"])
def test_blank_lines_before_the_header_do_not_matter(tmp_path: Path, blank: str) -> None:
    text = f"\ufeff{blank}init_video,prompt\r\ns3://src/a.mp4,a\r\n"
    number = 2 + blank.count("\n")
    assert clips_of(tmp_path, "clips.csv", text) == [("s3://src/a.mp4", {"prompt": "a"}, None, number)]


def test_a_bad_header_after_blank_lines_is_told_with_its_own_number(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="line 3: header: 'promt' is not an attribute"):
        clips_of(tmp_path, "clips.csv", "\n\ninit_video,promt\ns3://src/a.mp4,a\n")


@pytest.mark.parametrize("depth", [30, 400, 20_000])
@pytest.mark.parametrize("opens", ["[", '{"a":'])
def test_a_line_that_is_nested_too_deep_is_a_bad_line(tmp_path: Path, opens: str, depth: int) -> None:
    closes = "]" if opens == "[" else "}"
    deep = f"{opens * depth}1{closes * depth}"
    line = f'{{"init_video": "s3://src/a.mp4", "extra_parameters": {{"x": {deep}}}}}'
    if depth == 30:
        ((_, overrides, *_),) = clips_of(tmp_path, "clips.jsonl", line)
        assert json.dumps(overrides["extra_parameters"]["x"], separators=(",", ":")) == deep
        return
    with pytest.raises(InvalidRequestError, match="line 2: line: is nested more than 100 levels deep"):
        clips_of(tmp_path, "clips.jsonl", f"\n{line}")
    cell = f'{{"x": {deep}}}'.replace('"', '""')
    with pytest.raises(InvalidRequestError, match=r"line 2: extra_parameters: .* is nested more than 100 levels deep"):
        clips_of(tmp_path, "clips.csv", f'init_video,extra_parameters\ns3://src/a.mp4,"{cell}"')


def test_an_empty_file_has_no_clips(tmp_path: Path) -> None:
    assert clips_of(tmp_path, "clips.jsonl", "") == []


def test_the_results_of_an_earlier_batch_are_clips(tmp_path: Path) -> None:
    lines = [
        {
            "schema_version": 1,
            "index": 0,
            "status": "landed",
            "source": "s3://src/a.mp4",
            "uri": "s3://out/a.mp4",
            "seed": 1,
        },
        {"schema_version": 1, "index": 1, "status": "failed", "source": "s3://src/b.mp4", "uri": "s3://out/b.mp4"},
        {"schema_version": 1, "index": 2, "status": "skipped", "source": "s3://src/c.mp4", "uri": "s3://out/c.mp4"},
        {"schema_version": 1, "index": 3, "status": "pending", "source": "s3://src/d.mp4", "uri": "s3://out/d.mp4"},
    ]
    clips = read_manifest(written(tmp_path, "r.jsonl", "\n".join(map(json.dumps, lines))), no_s3)
    assert [(clip.source, dict(clip.overrides)) for clip in clips.clips] == [
        ("s3://out/a.mp4", {}),
        ("s3://out/c.mp4", {}),
    ]
    assert clips.ignored == {
        "clips that an earlier batch reports as failed": 1,
        "clips that an earlier batch reports as pending": 1,
    }


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", "{", ["a.jsonl", "line 1: line: is not valid JSON"]),
        ("a.jsonl", "[1]", ["line 1: line: must be a JSON object", "'[1]'"]),
        ("a.jsonl", '{"prompt": "a"}', ["line 1: init_video: is missing", "got prompt"]),
        ("a.jsonl", '{"uri": 5}', ["line 1: uri: must be text; got 5"]),
        ("a.jsonl", '{"uri": "s3://src/a", "source": "s3://src/b"}', ["more than once: uri, source"]),
        ("a.jsonl", '{"uri": "ftp://host/a"}', ["line 1: uri: ftp:// is not supported"]),
        ("a.jsonl", '{"uri": "s3://src/folder/"}', ["has no object key"]),
        ("a.jsonl", '{"uri": "s3://s!c/a.mp4"}', ["'s!c'"]),
        ("a.jsonl", '{"uri": "https:///a.mp4?sig=secret"}', ["has no host"]),
        ("a.jsonl", '{"uri": "None"}', ["is empty"]),
        ("a.jsonl", '{"uri": "s3://src/a.mp4", "destination": 5}', ["line 1: destination: must be"]),
        ("a.csv", "prompt,seed\na,1", ["line 1: header: needs a column init_video; got 'prompt, seed'"]),
        ("a.csv", "uri,promt\na,1", ["line 1: header: 'promt' is not an attribute", "did you mean prompt?"]),
        ("a.csv", "uri,seed,seed\na,1,2", ["'seed' more than once"]),
        ("a.csv", "uri,seed\ns3://src/a.mp4,1,2", ["line 2: line: has 3 cells for 2 columns"]),
        (
            "a.csv",
            "uri,extra_parameters\ns3://src/a.mp4,{x",
            ["line 2: extra_parameters: must be a JSON object; got '{x'"],
        ),
        ("a.csv", 'uri,prompt\ns3://src/a.mp4,"open', ["cannot be read completely"]),
        ("a.csv", b"uri,prompt\ns3://src/a.mp4,\xff", ["cannot be read completely: UnicodeDecodeError"]),
        ("a.txt", "", ["has no known suffix", ".jsonl"]),
    ],
)
def test_bad_files_name_line_field_and_what_was_given(
    tmp_path: Path, name: str, content: str | bytes, says: list[str]
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_manifest(written(tmp_path, name, content), no_s3)
    for text in says:
        assert text in str(caught.value)
    assert "secret" not in str(caught.value)


def test_all_bad_lines_are_told_at_once_the_first_twenty_in_words(tmp_path: Path) -> None:
    lines = ['{"prompt": "a"}' if number % 2 else '{"uri": "s3://src/a.mp4"}' for number in range(100)]
    with pytest.raises(InvalidRequestError) as caught:
        read_manifest(written(tmp_path, "a.jsonl", "\n".join(lines)), no_s3)
    assert "50 problems; nothing was submitted" in str(caught.value)
    assert "line 40: init_video: is missing" in str(caught.value)
    assert "line 42: " not in str(caught.value)
    assert str(caught.value).endswith("... and 30 more")
    assert len(caught.value.fields["init_video"]) == 20


def test_a_packed_file_that_is_cut_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"uri": "s3://src/a.mp4"}\n' * 1000)[:-20])
    with pytest.raises(InvalidRequestError, match="cannot be read completely: EOFError"):
        read_manifest(str(path), no_s3)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="a line of more than"):
        read_manifest(written(tmp_path, "a.jsonl.gz", b" " * 3_000_000), no_s3)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"nowhere\.csv cannot be opened \(No such file"):
        read_manifest(str(tmp_path / "nowhere.csv"), no_s3)


@pytest.mark.parametrize(
    ("where", "manifest"),
    [("s3://b/a.JSONL", True), ("a.csv.gz", True), ("s3://b/a.mp4", False), ("s3://b/csv/", False), ("x.tsv ", True)],
)
def test_is_manifest(where: str, manifest: bool) -> None:
    assert is_manifest(where) is manifest
