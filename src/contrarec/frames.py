"""The user's own frames: ids in, a frame of the same kind out."""

from typing import Any

import narwhals as nw
import polars as pl

from contrarec.errors import DataError


def ids_of(values: Any, dtype: pl.DataType) -> tuple[pl.Series, str | None]:
    """Return ids as a polars series of the vocabulary's type, and the kind of frame they came in.

    Args:
        values: a list, array, or a polars, pandas or Arrow series or one-column frame.
        dtype: type of the vocabulary's ids; what cannot be converted becomes null, an unknown id.

    Returns:
        The ids, and `polars`, `pandas` or `pyarrow`; None if they came in no frame.
    """
    native = nw.from_native(values, allow_series=True, pass_through=True)
    kind = None
    if isinstance(native, nw.DataFrame):
        if native.shape[1] != 1:
            raise DataError(f"ids: expected one column, got {native.columns}.")
        native = native[native.columns[0]]
    if isinstance(native, nw.Series):
        kind = native.implementation.value
        values = native.to_list()
    elif isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        values = [values]  # one id
    try:
        series = pl.Series("id", list(values), strict=False)
        return series.cast(dtype, strict=False), kind
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"ids: expected texts or whole numbers ({error}).") from error


def native_frame(kind: str, columns: dict[str, pl.Series]) -> Any:
    """Build a frame of the given kind (`polars`, `pandas` or `pyarrow`) from columns."""
    frame = pl.DataFrame(columns)
    if kind == "pandas":
        arrays = {name: column.to_numpy() for name, column in frame.to_dict().items()}
        return nw.from_dict(arrays, backend="pandas").to_native()
    return frame.to_arrow() if kind == "pyarrow" else frame
