"""`contrarec analyse`: what AdvInfoNCE's adversary does, and what each part of it brings."""

import typer

from contrarec.cli.analyse import model, study

app = typer.Typer(
    help="What the adversary of AdvInfoNCE does, and what each part of it brings.",
    rich_markup_mode=None,
)
app.command()(model.hardness)
app.command("false-negatives")(model.false_negatives)
app.command()(model.geometry)
app.command()(model.dro)
app.command()(study.ablation)
app.command()(study.intensity)
