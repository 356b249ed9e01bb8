"""Tables that go out as data frames of pandas, which is imported where one is asked for."""

from typing import Any


def pandas_for(method: str) -> Any:
    """The module pandas, or what to install for the method."""
    try:
        import pandas
    except ImportError:
        raise ImportError(f"{method} needs pandas: pip install 'jaxgmm[table]'.") from None
    return pandas
