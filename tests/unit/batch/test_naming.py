from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.batch.planning.naming import KeyTemplate, Names, stem_and_name

NAMES = Names(
    stem="clip", name="clip.mov", ext="mp4", hash="0123456789ab", index=7, model_id="org/model", path="day/one", seed=42
)


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{path}/{stem}.{ext}", "day/one/clip.mp4"),
        ("{name}.{ext}", "clip.mov.mp4"),
        ("{stem}-{seed}-{hash}.{ext}", "clip-42-0123456789ab.mp4"),
        ("{index:05d}_{seed:010d}.mp4", "00007_0000000042.mp4"),
        ("{model_id}/{stem}.{ext}", "org_model/clip.mp4"),
        ("{{{stem}}}.{ext}", "{clip}.mp4"),
        (" styled//{stem}.{ext} ", "styled//clip.mp4"),
    ],
)
def test_render(template: str, key: str) -> None:
    assert KeyTemplate(template).render(NAMES) == key


@pytest.mark.parametrize(
    ("template", "path", "key"),
    [
        ("{path}/{stem}.{ext}", None, "clip.mp4"),
        ("a/{path}/{stem}.{ext}", None, "a/clip.mp4"),
        ("a-{path}-{stem}.{ext}", None, "a--clip.mp4"),
        ("{path}/{stem}.{ext}", "", "/clip.mp4"),
        ("{path}/{stem}.{ext}", "/day", "/day/clip.mp4"),
        ("{path}/{stem}.{ext}", "day/", "day//clip.mp4"),
        ("a/{path}/{stem}.{ext}", "x//y", "a/x//y/clip.mp4"),
    ],
)
def test_a_path_keeps_every_slash_and_leaves_none_where_there_is_no_folder(
    template: str, path: str | None, key: str
) -> None:
    assert KeyTemplate(template).render(replace(NAMES, path=path)) == key


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "has no file name at its end"),
        ("styled/", "has no file name at its end"),
        ("{stem}", r"must end with \.\{ext\}"),
        ("{stem}.webm", "must end with"),
        ("{title}.{ext}", r"unknown field \{title\}; allowed: \{stem\}"),
        ("{}.{ext}", r"unknown field \{\}"),
        ("{0}.{ext}", r"unknown field \{0\}"),
        ("{stem.__class__}.{ext}", r"unknown field \{stem.__class__\}"),
        ("{stem!r}.{ext}", "has an unknown format"),
        ("{stem:>900}.{ext}", "has an unknown format"),
        ("{index:999}.{ext}", "has an unknown format"),
        ("{index:{seed}}.{ext}", "has an unknown format"),
        ("{stem.{ext}", "is not a valid template|unknown field"),
        ("{stem}}.{ext}", "is not a valid template"),
        ("../{stem}.{ext}", "below the output prefix"),
        ("a/../../{stem}.{ext}", "below the output prefix"),
        ("/{stem}.{ext}", "below the output prefix"),
        ("s3://other/{stem}.{ext}", "below the output prefix"),
        ("all.{ext}", "the same key for all clips"),
        ("{model_id}.{ext}", "the same key for all clips"),
        ("a\n{stem}.{ext}", "control characters"),
        ("a" * 1100 + "{stem}.{ext}", "1024 bytes"),
    ],
)
def test_a_template_that_cannot_work_is_refused_when_it_is_made(template: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        KeyTemplate(template)
    assert str(caught.value).startswith("key_template: ")


@pytest.mark.parametrize(
    ("template", "changes", "says"),
    [
        ("{seed}.{ext}", {"seed": None}, "this clip has no seed"),
        ("{stem}.mp4", {"ext": "gif"}, "output_type is gif"),
        ("{path}/{stem}.{ext}", {"path": "a/../b"}, r"'\.' or '\.\.'"),
        ("{path}/{stem}.{ext}", {"path": "a\x00b"}, "control characters"),
        ("{stem}/{stem}.{ext}", {"stem": ".."}, r"'\.' or '\.\.'"),
    ],
)
def test_values_that_make_no_key(template: str, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        KeyTemplate(template).render(replace(NAMES, **changes))  # type: ignore[arg-type]


@given(
    st.builds(
        Names,
        st.text(),
        st.text(),
        st.sampled_from(["mp4", "gif"]),
        st.just("0" * 12),
        st.integers(0, 10**6),
        st.text(),
        st.none() | st.text(),
        st.integers(0, 2**32 - 1),
    ),
    st.sampled_from(
        ["{path}/{stem}.{ext}", "{name}.{ext}", "a/{model_id}-{stem}-{seed}.{ext}", "{stem}/{index}.{ext}"]
    ),
)
def test_no_value_makes_a_key_that_leaves_its_place(names: Names, template: str) -> None:
    try:
        key = KeyTemplate(template).render(names)
    except ValueError:
        return
    parts = key.split("/")
    assert not {".", ".."} & set(parts)
    assert len(parts) == template.count("/") + 1 + (names.path or "").count("/") * template.count("{path}") - (
        names.path is None
    ) * template.count("{path}/")
    assert key.endswith(f".{names.ext}")
    assert key.isprintable() or not any(ord(character) < 32 for character in key)


@pytest.mark.parametrize(
    ("source", "stem", "name"),
    [
        ("s3://src/day/a.b.mp4", "a.b", "a.b.mp4"),
        ("s3://src/a?b#c%20.mp4", "a?b#c%20", "a?b#c%20.mp4"),
        ("https://host/x/clip%20one.gif?sig=a/b.mp4", "clip one", "clip one.gif"),
        ("https://host/", "clip", "clip"),
        ("https://host/download?id=1", "download", "download"),
        ("/data/clips/.hidden", ".hidden", ".hidden"),
        ("file:///data/my%20clip.mp4", "my clip", "my clip.mp4"),
    ],
)
def test_names_of_sources(source: str, stem: str, name: str) -> None:
    assert stem_and_name(source) == (stem, name)
