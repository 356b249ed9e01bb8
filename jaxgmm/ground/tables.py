"""Tables that go out as data frames of pandas, which is imported where one is asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def data_frame(table: Any) -> "pandas.DataFrame":
    """What `pandas.DataFrame` makes of it, for the methods called `to_pandas`."""
    try:
        import pandas
    except ImportError:
        raise ImportError("to_pandas needs pandas: pip install 'jaxgmm[table]'.") from None
    return pandas.DataFrame(table)
