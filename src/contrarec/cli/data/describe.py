"""`contrarec data describe`: what a data set holds."""

from contrarec.cli.console import Json, output
from contrarec.cli.data.shared import report
from contrarec.cli.inputs import Data, ItemCol, TimeCol, UserCol, WeightCol, load_data


def describe(
    data: Data,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Count what each part holds and how far its popularity shifts."""
    with output(as_json) as console:
        loaded = load_data(data, user_col, item_col, time_col, weight_col)
        report(console, loaded, {"path": loaded.path})
