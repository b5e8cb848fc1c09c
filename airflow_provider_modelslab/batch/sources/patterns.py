"""Which keys below a prefix are meant: globs as the shell writes them, and the suffixes of videos."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

__all__ = ["VIDEO_SUFFIXES", "is_ours", "is_staged", "key_filter"]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".gif", ".webm", ".mkv", ".avi")
"""Suffixes of clips when no pattern is given; upper and lower case are the same. The endpoint reads mp4 (and mov) and
gif. A clip of another kind fails with that reason, so it is in the report."""

_STAGED = re.compile(r"(^|/)inputs/[0-9a-f]{64}\.(mp4|gif)$")


def key_filter(pattern: str | Sequence[str] | None) -> Callable[[str], bool]:
    """Whether a key below the prefix is meant.

    ``*`` and ``?`` stay within one folder, ``**`` crosses folders, ``[abc]`` and ``[!abc]`` are one character. A
    pattern without a slash is compared with the name alone, in every folder that is listed; one with a slash with the
    whole key below the prefix. Case matters. Several patterns: any of them.

    :param pattern: ``None`` takes the video suffixes.
    :raises ValueError: for a pattern that cannot match anything.
    """
    if pattern is None:
        return lambda key: key.lower().endswith(VIDEO_SUFFIXES)
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    if not patterns:
        raise ValueError("pattern: is an empty list; leave it out to take all videos")
    names = _any([glob for glob in patterns if "/" not in glob])
    paths = _any([glob for glob in patterns if "/" in glob])

    def wanted(key: str) -> bool:
        return bool(names and names.fullmatch(key.rpartition("/")[2])) or bool(paths and paths.fullmatch(key))

    return wanted


def is_ours(key: str) -> bool:
    """Whether this package wrote an object for itself: a ledger, index or manifest, a sidecar."""
    return ("_modelslab" in key and "_modelslab" in key.split("/")) or key.endswith((".mp4.json", ".gif.json"))


def is_staged(key: str) -> bool:
    """Whether an object has the name that a local file gets when it is put into S3 for the endpoint to read.

    :param key: below the prefix that a person named: who names the folder itself means what is in it.
    """
    return "inputs/" in key and _STAGED.search(key) is not None


def _any(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{_regex(glob)})" for glob in globs), re.DOTALL) if globs else None


def _regex(glob: str) -> str:
    if not glob.strip() or glob.startswith("/") or ".." in glob.split("/"):
        raise ValueError(
            f"pattern: {glob!r} cannot match anything: it is compared with the key below the prefix, like 2026-*/*.mp4"
        )
    out, position = [], 0
    while position < len(glob):
        rest = glob[position:]
        character_set = re.match(r"\[(!?)([^]/]+)\]", rest)
        if rest.startswith("**/"):
            out.append("(?:.*/)?")
            position += 3
        elif rest.startswith("**"):
            out.append(".*")
            position += 2
        elif rest[0] in "*?":
            out.append("[^/]*" if rest[0] == "*" else "[^/]")
            position += 1
        elif character_set:
            content = character_set[2].replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[")
            out.append(f"[{'^/' if character_set[1] else ''}{content}]")
            position += character_set.end()
        else:
            out.append(re.escape(rest[0]))
            position += 1
    try:
        re.compile("".join(out))
    except re.error as error:
        raise ValueError(f"pattern: {glob!r} is not a valid pattern ({error})") from None
    return "".join(out)
