"""Values of columns as plain JSON."""

import datetime
import math
from typing import Any


def json_value(value: Any) -> Any:
    """A value of a column as JSON can hold it: no NaN or infinity, times as ISO 8601, bytes in hexadecimal."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): json_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(each) for each in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
