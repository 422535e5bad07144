"""Encodes chapters as AAC and joins them to one M4B with chapters, cover and tags, by PyAV."""

import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.spec import SAMPLE_RATE

PACKET = 1024  # samples, of AAC
PRIMING = 1024  # samples of silence that the encoder puts before its input
SECOND = Fraction(1, SAMPLE_RATE)


def load_av() -> Any:
    """The module av; raises ConfigError if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise ConfigError("audiobooks need PyAV: pip install 'barkery[audiobook]'") from error
    return av


def encode_aac(samples: Iterable[np.ndarray], kbps: int) -> tuple[bytes, int]:
    """An MP4 file with one AAC track of these samples, each (N,) float32, and its number of packets."""
    av = load_av()
    content, packets, at = io.BytesIO(), 0, 0
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = kbps * 1000
        for block in blocks(samples, PACKET):
            frame = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, at, SECOND
            at += len(block)
            for packet in stream.encode(frame):
                packets += 1
                container.mux(packet)
        for packet in stream.encode(None):
            packets += 1
            container.mux(packet)
    return content.getvalue(), packets


def blocks(samples: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in pieces of `size`; the last may be shorter."""
    left = np.zeros(0, np.float32)
    for piece in samples:
        left = np.concatenate([left, piece])
        whole = len(left) // size * size
        yield from left[:whole].reshape(-1, size)
        left = left[whole:]
    if len(left):
        yield left


def write_m4b(path: Path, titles: Sequence[str], read: Any, tags: dict[str, str], cover: bytes) -> None:
    """Join AAC tracks packet by packet, without encoding again; one chapter is in memory at a time.

    Args:
        titles: of the chapters.
        read: number of a chapter, from 0 -> its MP4 file.
        cover: JPEG or PNG; empty for none.
    """
    av = load_av()
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as book:
        book.metadata.update(tags)
        picture = open_cover(av, cover)
        stream, image, at, chapters = None, None, 0, []
        for number, title in enumerate(titles):
            with av.open(io.BytesIO(read(number))) as track:
                if stream is None:
                    stream = book.add_stream_from_template(track.streams.audio[0])
                    if picture is not None:
                        image = book.add_stream_from_template(picture.streams.video[0])
                        image.disposition = av.stream.Disposition.attached_pic
                start = at
                for packet in track.demux(track.streams.audio[0]):
                    if packet.size:
                        packet.stream, packet.time_base = stream, SECOND
                        packet.pts, packet.dts, packet.duration = at, at, PACKET
                        at += PACKET
                        book.mux(packet)
                chapters.append(
                    {"id": number, "start": start, "end": at, "time_base": SECOND, "metadata": {"title": title}}
                )
        if picture is not None:
            for packet in picture.demux(picture.streams.video[0]):
                if packet.size:
                    packet.stream, packet.pts, packet.dts = image, 0, 0
                    book.mux(packet)
            picture.close()
        book.set_chapters(chapters)


def open_cover(av: Any, cover: bytes) -> Any | None:
    """The picture as a container of one frame; None if there is none, or if it is damaged."""
    if not cover:
        return None
    kind = "png_pipe" if cover.startswith(b"\x89PNG") else "jpeg_pipe"
    try:
        picture = av.open(io.BytesIO(cover), format=kind)
        if picture.streams.video and picture.streams.video[0].codec_context.width:
            return picture
        picture.close()
    except av.error.FFmpegError:
        pass
    return None
