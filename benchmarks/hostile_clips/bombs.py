"""Small files that take much: memory, time, frames."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache

from benchmarks.hostile_clips.boxes import FTYP, box, full_box, movie, sample_table, track

__all__ = ["BOMBS", "growing_clip", "heavy_gif", "many_samples", "picture_movie", "png"]


@cache
def png(width: int, height: int, shade: int = 0, *, rows: int | None = None) -> bytes:
    """A picture of one shade of grey; it is made row by row, so that a huge one takes no memory here.

    :param rows: after how many of them the data end; by default they are whole.
    """
    packer = zlib.compressobj(1)
    row = b"\0" + bytes([shade]) * (3 * width)
    packed = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture_movie(codec: bytes, pictures: Sequence[bytes], width: int, height: int) -> bytes:
    """An mp4 whose samples are these pictures, whatever their sizes; the header has one of its own."""
    sizes = tuple(map(len, pictures))

    def made(offset: int) -> bytes:
        table = sample_table(codec, width=width, height=height, samples=len(sizes), sizes=sizes, offset=offset)
        return movie(track(table, width=width, height=height), media=b"".join(pictures))

    return made(len(made(0)) - sum(sizes))


def _same_picture(picture: bytes, times: int, width: int, height: int, *, first: bytes = b"") -> bytes:
    """One picture in the file, and many samples that are all this one.

    :param first: another picture, which is the first sample.
    """
    sizes = [len(first), *[len(picture)] * times] if first else []
    sample_size, samples = (0 if first else len(picture)), len(sizes) or times

    def made(offset: int) -> bytes:
        head = sample_table(b"png ", width=width, height=height, samples=samples, sample_size=len(picture))
        offsets = [*([offset] if first else []), *[offset + len(first)] * times]
        table = head[8 : head.index(b"stsc") - 4] + full_box(b"stsc", struct.pack(">IIII", 1, 1, 1, 1))
        table += full_box(b"stsz", struct.pack(f">II{len(sizes)}I", sample_size, samples, *sizes))
        table += full_box(b"stco", struct.pack(f">I{samples}I", samples, *offsets))
        return movie(track(box(b"stbl", table), width=width, height=height), media=first + picture)

    return made(len(made(0)) - len(first + picture))


def many_samples(tracks: int = 1) -> bytes:
    """A file of a few hundred bytes whose tracks promise 50 million samples each."""
    return movie(*[track(sample_table(b"avc1", samples=50_000_000, sample_size=1))] * tracks)


def growing_clip(frames: int = 2000) -> bytes:
    """A small first frame, then frames of 4096x2304, in 0.1 MB: as many pixels as a clip may have."""
    return _same_picture(png(4096, 2304), frames, 64, 48, first=png(64, 48))


def heavy_gif() -> bytes:
    """A gif with as many pixels as a gif may have, in 0.8 MB."""
    return _gif(1000, 1000, 490, _packed(1_000_000))


def _samples(rng: random.Random) -> bytes:
    lie = track(sample_table(b"avc1", samples=rng.choice((1 << 20, 50_000_000, 0x0FFFFFFF)), sample_size=1))
    return movie(*[lie] * rng.choice((1, 3, 12)))


def _huge_picture(rng: random.Random) -> bytes:
    side = rng.choice((5000, 9000, 16000))
    header = rng.choice(((64, 48), (side, side)))
    return picture_movie(b"png ", [png(side, side)], *header)


def _changing_size(rng: random.Random) -> bytes:
    large = png(rng.choice((2048, 4096)), 2304)
    return picture_movie(b"png ", [png(64, 48), *[large] * rng.choice((3, 40))], 64, 48)


def _many_large_frames(rng: random.Random) -> bytes:
    size = rng.choice(((4096, 2304), (1920, 1080)))
    claimed = rng.choice((size, (64, 48)))
    return _same_picture(png(*size), rng.choice((500, 2000)), *claimed)


def _gif(width: int, height: int, frames: int, picture: bytes, code_size: int = 2) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    data = b"".join(bytes([len(part)]) + part for part in (picture[i : i + 255] for i in range(0, len(picture), 255)))
    frame = b"\x21\xf9\x04\x04\x04\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return head + (frame + bytes([code_size]) + data + b"\0") * frames + b";"


@cache
def _packed(pixels: int) -> bytes:
    """So many pixels of one colour as LZW with codes that are as long as they get."""
    bits: list[int] = []
    size, next_code, run = 3, 6, 1

    def put(code: int) -> None:
        bits.extend(code >> bit & 1 for bit in range(size))

    put(4)
    put(0)
    done = 1
    while done < pixels:
        code = next_code  # the run before and one more: the code that is being made
        run += 1
        put(code)
        done += run
        next_code += 1
        if next_code == 1 << size and size < 12:
            size += 1
        if next_code >= 4094:
            put(4)
            size, next_code, run = 3, 6, 1
            put(0)
            done += 1
    put(5)
    bits += [0] * (-len(bits) % 8)
    return bytes(sum(bit << place for place, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))


def _long_gif(rng: random.Random) -> bytes:
    width, height, frames = rng.choice(((1000, 1000, 490), (500, 500, 1950), (4000, 2000, 60), (1000, 1000, 5000)))
    return _gif(width, height, frames, _packed(width * height))


def _gif_of_tiny_frames(rng: random.Random) -> bytes:
    return _gif(1, 1, rng.choice((50_000, 250_000)), b"\x44\x01")


def _huge_gif(rng: random.Random) -> bytes:
    side = rng.choice((3000, 20000, 65535))
    return _gif(side, side, 2, b"\x44\x01" * 20)


def _packed_index(_: random.Random) -> bytes:
    """QuickTime's compressed index, of 512 MiB of zeros."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()
    cmov = box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", 512 << 20) + packed))
    return FTYP + box(b"moov", cmov)


def _nested(rng: random.Random) -> bytes:
    kind, depth = rng.choice((b"moov", b"trak", b"udta", b"meta")), rng.choice((100, 20_000))
    head = b"".join(struct.pack(">I4s", 8 * (depth - level), kind) for level in range(depth))
    return FTYP + head


def _many_tracks(rng: random.Random) -> bytes:
    one = track(sample_table(rng.choice((b"avc1", b"hvc1", b"mp4v", b"png ")), samples=3, sample_size=40))
    return movie(*[one] * rng.choice((200, 3000)), media=bytes(4000))


def _long_tables(rng: random.Random) -> bytes:
    entries = rng.choice((100_000, 1_000_000))
    table = sample_table(b"avc1", samples=entries, sample_size=1)[8:]
    more = full_box(b"ctts", struct.pack(">I", entries), struct.pack(">II", 1, 5) * entries)
    edits = box(b"edts", full_box(b"elst", struct.pack(">I", entries), struct.pack(">IIHH", 1, 0, 1, 0) * entries))
    whole = track(box(b"stbl", table, more))
    return movie(box(b"trak", whole[8:], edits))


def _fragments(rng: random.Random) -> bytes:
    samples = rng.choice((100_000_000, 0xFFFFFFFF, 200_000))
    trex = full_box(b"trex", struct.pack(">IIIII", 1, 1, 1, 1, 0))
    trun = full_box(b"trun", struct.pack(">I", samples))
    traf = box(b"traf", full_box(b"tfhd", struct.pack(">I", 1)), trun)
    moof = box(b"moof", full_box(b"mfhd", struct.pack(">I", 1)), traf)
    empty = track(sample_table(b"avc1", samples=0))
    return movie(empty, more=box(b"mvex", trex)) + moof * rng.choice((1, 500))


def _long_text(rng: random.Random) -> bytes:
    name = box(b"\xa9nam", struct.pack(">HH", 0xFFFF, 0x55C4) + rng.randbytes(0xFFFF))
    return movie(track(sample_table(b"avc1")), more=box(b"udta", *[name] * 60))


def _large_sample(rng: random.Random) -> bytes:
    codec = rng.choice((b"png ", b"jpeg", b"mjp2", b"avc1", b"rle ", b"raw "))
    size = rng.choice((0x7FFFFFFF, 0x3FFFFFFF, 600 << 20))
    return movie(track(sample_table(codec, samples=rng.choice((1, 100)), sample_size=size, offset=40)), media=bytes(99))


def _raw_frames(rng: random.Random) -> bytes:
    codec, (width, height) = (
        rng.choice((b"raw ", b"2vuy", b"v210", b"r210")),
        rng.choice(((4096, 2304), (65535, 65535))),
    )
    table = sample_table(codec, width=width, height=height, samples=2000, sample_size=100, offset=40)
    return movie(track(table, width=width, height=height), media=bytes(4000))


BOMBS: tuple[Callable[[random.Random], bytes], ...] = (
    *(_samples, _huge_picture, _changing_size, _many_large_frames, _long_gif, _gif_of_tiny_frames, _huge_gif),
    *(_packed_index, _nested, _many_tracks, _long_tables, _fragments, _long_text, _large_sample, _raw_frames),
)
"""One of each kind; sizes are drawn."""
