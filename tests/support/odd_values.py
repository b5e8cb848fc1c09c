"""Values that may stand where a field, a header or the body of an endpoint's answer is expected."""

from __future__ import annotations

MARK = "hush"
"""A part of the key that no form of quoting changes."""

KEY = f'sk/"ü+ <{MARK}> ?&'

DEEP = tuple("[" * depth + "]" * depth for depth in (17, 200, 950, 2000)) + tuple(
    '{"a":' * depth + "1" + "}" * depth for depth in (18, 950)
)

NUMBERS = (
    *("0", "-1", "7", "1.5", "-0.0", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e308", "1e-400", "1E400"),
    *(str(n) for n in (2**53, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**400)),
    "9" * 401,
    "1" + "0" * 5000,
)

TEXTS = (
    *("", " ", "null", "{}", "7", "x" * 300, "x" * 3000, "x" * 9000, "\0", "a\0b", "\ud800", "a\udfff", "\ufeff"),
    *("日本語 🎬", "\u202etxt", "\r\nX-Odd: 1", "%s %d {0} {name}", "\x1b[31m", "\u0664", "1e999", "nan", "-5"),
    *("³", "9" * 401),
    *(f"near {KEY}, {{}}", "https://b.example/in.mp4?X-Sig=other", "https://u:other@b.example/x", "https://["),
    *("wait for ³ seconds", "wait for 30 seconds", f"wait for {'9' * 400} seconds", "wait for -1 seconds", "seconds"),
    *("Rate limit exceeded", "same request multiple times", "Invalid API key", "unauthorized", "Insufficient credits"),
    *("You have no subscription", "Request not found", "internal server error", "Service temporarily unavailable"),
    *("Try Again", "Failed, Try Again", "Server is busy", "CUDA out of memory", "The prompt field is required."),
)

STATUSES = (
    *("success", "SUCCESS", " success ", "succeeded", "completed", "complete", "finished", "done", "ok"),
    *("processing", "Processing", "queued", "pending", "running", "in_progress", "brewing", "", "unknown"),
    *("error", "ERROR", "failed", "Failed", "failure", "canceled", "cancelled", "timeout", "x" * 3000, "\ud800", "\0"),
)

LINKS = (
    *("https://h.example/a.mp4", "https://h.example/a.gif?sig=1", "HTTP://H.example/A.MP4", "http://[", "https://"),
    *("", " ", "/relative.mp4", "ftp://h/a.mp4", "file:///etc/passwd", "javascript:alert(1)", "a", "\ud800", "\0"),
    *("https://h.example/\ud800.mp4", "https://h.example/a\0.mp4", "https://h.example/ a.mp4"),
    *("https://é.example/ü.mp4",),
    *("https://h.example/" + "x" * 5000, "https://h.example:99999/a.mp4", "https://127.0.0.1/a.mp4"),
)

IDS = (
    *(7, "7", "12345678", "b7c1-uuid", 0, "0", -1, 2**63 - 1, 2**63, 10**30, 10**400, "x" * 300, " 7 ", "a b"),
    *("a/b", "../x", ".", "..", "a?b#c", "%2e%2e", "é", "\ud800", "\0", "", " ", None, True, False, 1.5),
    *([7], {"id": 7}),
)

PAGES = (
    *(b"", b" ", b"\n", b"OK", b"null", b"true", b"7", b'"success"', b"[]", b"{}", b"[{}]", b"\0", b"\xff\xfe", b"{"),
    *(b"<!DOCTYPE html><title>Just a moment...</title>", b"<h1>502 Bad Gateway</h1>", b"<?xml version='1.0'?><Error/>"),
    *(f"<pre>{KEY}</pre>".encode(), f"{'x' * 190}{KEY}".encode(), b"\x00\x01\x02" * 100, b"a" * 20_000),
    *(b"error code: 1020", b"Service Unavailable", b"NaN", b"data: {}\n\n"),
    *(b'{"status": "success"}\n{"status": "error"}',),
)

HTTP_STATUSES = (
    *(200,) * 50,
    *(201, 202, 203, 206, 208, 299, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 418, 422, 425, 429, 451, 499),
    *(500, 501, 502, 503, 504, 520, 522, 524, 529, 599, 600, 999, 300, 301, 302, 303, 307, 308, 102, 204, 205, 304),
)

CONTENT_TYPES = (
    *("application/json",) * 3,
    *("text/html", "text/html; charset=utf-16", "application/json; charset=latin-1", "application/json; charset=nope"),
    *("", ";", "text/event-stream", "application/octet-stream", "image/gif", "multipart/form-data; boundary=x", "\xff"),
)

RETRY_AFTER = (
    *("0", "7", "600", "86400", "-5", "soon", "³", "1e999", "nan", "inf", "1e300", "9" * 401, "", " ", "7, 8", "0x10"),
    *("Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 99999 23:59:59 GMT", "0 Jan 0"),
    *("Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", "Sun, 99 Nov 2094 99:99:99 GMT", "\xff"),
    *("Sun, 06 Nov 2094 08:49:37 +9999", "Sun, 06 Nov 2094 08:49:37 +99999999999999999999", "1 2 3 4 5 6", ","),
)

LOCATIONS = (
    *("/login", "https://else.example/x", f"https://u:{MARK}@else.example/?k={MARK}", "//else"),
    *("https://[", "", "\xff"),
    f"/login?next={MARK}",
)

OTHER_HEADERS = (
    ("Set-Cookie", f"session={MARK}; Path=/"),
    ("X-Odd", "\xff\xfe"),
    ("X-Odd", "x" * 9_000),
    ("X-Odd", "x" * 70_000),
    ("Connection", "close"),
    ("Content-Encoding", "identity"),
    ("Content-Encoding", "x-odd"),
)

FIELDS = (
    *("status", "status", "id", "id", "output", "output_url", "url", "proxy_links", "future_links", "meta", "meta"),
    *("message", "messege", "error", "tips", "eta", "generationTime", "retry_after", "request_id"),
    *("fetch_result", "key"),
)

SKELETONS: tuple[list[tuple[str, str]], ...] = (
    *([],) * 4,
    *([("status", '"processing"'), ("id", "7")], [("status", '"processing"'), ("id", '"b7c1"')]) * 2,
    *([("status", '"success"'), ("id", "7"), ("output", '["https://h.example/a.mp4"]')],) * 4,
    [("status", '"failed"'), ("id", "7"), ("message", '"no frames"')],
    [("status", '"failed"'), ("id", '""'), ("message", '"Request not found"')],
    [("status", '"error"'), ("message", '"Rate limit exceeded"')],
    [("status", '"error"'), ("message", '{"prompt": ["The prompt field is required."]}')],
)
"""Answers of the API as pieces of JSON text, to which odd fields are added."""
