"""Makes the bytes of an Ogg file follow from its sound alone."""

import struct
from functools import lru_cache

HEADER = 27  # bytes of a page before its table of segments
SERIAL, CHECKSUM = slice(14, 18), slice(22, 26)  # where a page has its stream's number and its checksum
POLYNOMIAL = 0x04C11DB7


def with_fixed_serial(content: bytes) -> bytes:
    """An Ogg file whose stream number, which libsndfile draws at random, is 1. Each page has it, under a checksum.

    Source: RFC 3533, section 6.
    """
    pages = []
    start = 0
    while start < len(content):
        num_segments = content[start + HEADER - 1]
        table = content[start + HEADER : start + HEADER + num_segments]
        end = start + HEADER + num_segments + sum(table)
        page = bytearray(content[start:end])
        page[SERIAL], page[CHECKSUM] = struct.pack("<I", 1), bytes(4)
        page[CHECKSUM] = struct.pack("<I", checksum(page))
        pages.append(bytes(page))
        start = end
    return b"".join(pages)


def checksum(page: bytes | bytearray) -> int:
    """Ogg's CRC-32, whose bits run in the other direction than zlib's."""
    table, value = crc_table(), 0
    for byte in page:
        value = (value << 8) & 0xFFFFFFFF ^ table[value >> 24 ^ byte]
    return value


@lru_cache
def crc_table() -> list[int]:
    table = []
    for value in (byte << 24 for byte in range(256)):
        for _ in range(8):
            value = (value << 1 ^ (POLYNOMIAL if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table
