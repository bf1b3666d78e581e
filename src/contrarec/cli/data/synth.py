"""`contrarec data synth`: a world whose preferences are known."""

from typing import Annotated

import typer

from contrarec.cli.console import Json, output
from contrarec.cli.data.shared import Folder, report


def synth(
    out: Folder,
    users: Annotated[
        int | None, typer.Option(metavar="N", help="Users; 1500 if not given.")
    ] = None,
    items: Annotated[int | None, typer.Option(metavar="N", help="Items; 600 if not given.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Another setting, as often as needed: n_preferred, exposure, bias, experiment, "
            "gamma, held_out, dim.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides everything random.")] = 0,
    as_json: Json = False,
) -> None:
    """Make up a world with known preferences.

    Its log is biased by exposure. Test sets: id as the log, uniform with uniform exposure, shifted
    with less bias. false_negatives.parquet has every pair that is liked and not in the log.
    """
    with output(as_json) as console:
        from contrarec.config import build, parse_override
        from contrarec.data.folder import write_false_negatives
        from contrarec.data.synthetic import SyntheticConfig, synthesize

        sizes = {"n_users": users, "n_items": items}
        values = {key: value for key, value in sizes.items() if value is not None}
        values |= dict(map(parse_override, overrides or []))
        config = build(SyntheticConfig, values, where="synth")
        world = synthesize(config, seed=seed)
        world.dataset.save(out)
        write_false_negatives(out, world.false_negatives)
        about = {
            "out": out,
            "seed": seed,
            "preferred": world.preferred.nnz,
            "false_negatives": world.false_negatives.nnz,
        }
        report(console, world.dataset, about)
