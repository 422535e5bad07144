"""Messages show URLs without their secrets."""

import pytest

from pipeline.errors import one_line, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/a.parquet: no such file", "s3://bucket/a.parquet: no such file"),
        ("https://me:secret@host:9/v.npz: refused", "https://host:9/v.npz: refused"),
        ("get 'https://host/m.parquet?X-Amz-Signature=secret&a=b'", "get 'https://host/m.parquet?...'"),
        ("simplecache::https://me:se@cret@host/m?sig=secret, twice s3://k:secret@b", "simplecache::https://host/m?... twice s3://b"),
        ("Is it a?b@c", "Is it a?b@c"),
    ],
)  # fmt: skip
def test_redacts_secrets_in_urls(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert one_line(ValueError(text + "\nmore")) == shown
