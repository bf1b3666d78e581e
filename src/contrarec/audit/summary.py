"""An audit in a few sentences: who is best, who loses least, at what cost, and how sure it is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from contrarec.audit.contrast import KEPT, SHIFTED, Difference, Estimate
from contrarec.comparison.layout import decimal

if TYPE_CHECKING:
    from contrarec.audit.result import Audit, MethodResult

SIGNIFICANT = 0.05


def summarise(audit: "Audit") -> tuple[str, ...]:
    """Return the summary, a sentence or two for each thing to know.

    A method counts as beaten if another is better with a corrected p of at most 0.05. What loses
    least is looked for among the methods that no other beats under shift: a method with little to
    lose can keep all of it.
    """
    if not audit.shifted:
        return (_in_distribution(audit), *_cautions(audit))
    sentences = [_in_distribution(audit)] if audit.reference else []
    best, unbeaten = _ranked(audit, _overall_place(audit))
    sentences.append(_under_shift(audit, best, unbeaten))
    if audit.reference:
        winner = max(unbeaten, key=lambda method: _kept(audit, method).mean)
        sentences.append(_loses_least(audit, winner, unbeaten))
        sentences.append(_cost(audit, winner))
        sentences.append(_lists(audit, winner))
    return (*sentences, *_cautions(audit))


def _overall_place(audit: "Audit") -> str:
    return SHIFTED if len(audit.shifted) > 1 else audit.shifted[0]


def _estimate(audit: "Audit", method: "MethodResult", place: str) -> Estimate:
    metric = audit.headline[0]
    if place in method.metrics:
        return method.metrics[place][metric]
    return method.overall[metric][place]


def _kept(audit: "Audit", method: "MethodResult") -> Estimate:
    return _estimate(audit, method, KEPT)


def _ranked(audit: "Audit", place: str) -> tuple["MethodResult", list["MethodResult"]]:
    """Return the best method at a place, and those that no other beats there, best first."""
    ordered = sorted(audit.methods, key=lambda method: -_estimate(audit, method, place).mean)
    unbeaten = [
        method
        for method in ordered
        if not any(
            _beats(_between(audit, other, method, place))
            for other in ordered
            if other is not method
        )
    ]
    return ordered[0], unbeaten


def _between(
    audit: "Audit", method: "MethodResult", against: "MethodResult", place: str
) -> Difference | None:
    return audit.difference(method.label, against.label, place, audit.headline[0])


def _beats(found: Difference | None) -> bool:
    return found is not None and found.difference > 0 and found.p_holm <= SIGNIFICANT


def _in_distribution(audit: "Audit") -> str:
    place = audit.reference or audit.shifted[0]
    best, unbeaten = _ranked(audit, place)
    value = _with_interval(_estimate(audit, best, place))
    text = f"In distribution ({place}), {best.label} has the highest {audit.headline[0]}, {value}"
    return text + _company(audit, best, unbeaten)


def _under_shift(audit: "Audit", best: "MethodResult", unbeaten: Sequence["MethodResult"]) -> str:
    place = _overall_place(audit)
    value = _with_interval(_estimate(audit, best, place))
    where = (
        f"mean of {', '.join(audit.shifted)}"
        if place == SHIFTED
        else f"test set {audit.shifted[0]}"
    )
    text = f"Under shift ({where}), {best.label} has the highest {audit.headline[0]}, {value}"
    return text + _company(audit, best, unbeaten)


def _company(audit: "Audit", best: "MethodResult", unbeaten: Sequence["MethodResult"]) -> str:
    """Say which methods cannot be told from the best one."""
    others = [method.label for method in unbeaten if method is not best]
    if len(audit.methods) == 1:
        return "."
    if not others:
        return ", significantly above every other method."
    if len(unbeaten) == len(audit.methods):
        return "; no difference between the methods is significant there."
    return f"; {_listed(others)} cannot be told from it, the others are significantly below."


def _loses_least(audit: "Audit", winner: "MethodResult", unbeaten: Sequence["MethodResult"]) -> str:
    metric, kept = audit.headline[0], _kept(audit, winner)
    rivals = [method for method in audit.methods if method is not winner]
    if not rivals:
        return f"{winner.label} keeps {_percent(kept)} of its {metric} in distribution under shift."
    found = {rival.label: _between(audit, winner, rival, KEPT) for rival in rivals}
    equals = [
        method.label for method in unbeaten if method in rivals and not _beats(found[method.label])
    ]
    text = f"{winner.label} loses least"
    if equals:
        text += f", but not significantly less than {_listed(equals)}"
    parts = [
        f"{rival.label} {_percent(_kept(audit, rival))}, {_sure(found[rival.label])}"
        for rival in rivals
    ]
    text += f": it keeps {_percent(kept)} of its {metric} in distribution ({'; '.join(parts)})."
    ahead = [
        rival.label
        for rival in rivals
        if rival not in unbeaten and _kept(audit, rival).mean > kept.mean
    ]
    if ahead:
        verb = "keeps" if len(ahead) == 1 else "keep"
        text += f" {_listed(ahead)} {verb} a larger share of less: significantly below under shift."
    return text


def _cost(audit: "Audit", winner: "MethodResult") -> str:
    place, metric = audit.reference or "", audit.headline[0]
    best, _ = _ranked(audit, place)
    if best is winner:
        return f"It costs nothing in distribution: {winner.label} is the best there, too."
    found = _between(audit, winner, best, place)
    gain = _between(audit, winner, best, _overall_place(audit))
    if found is None or gain is None:
        return ""
    cost = "Its cost in distribution"
    cost += "" if found.p_holm <= SIGNIFICANT else " is within chance"
    return (
        f"{cost}: {metric} {_size(found)} {best.label}, {_sure(found)}. Under shift it is "
        f"{_size(gain)} that one, {_sure(gain)}."
    )


def _size(found: Difference) -> str:
    """Say how far a method is above or below the other."""
    low, high = found.low, found.high
    word = "above"
    if found.difference < 0:
        low, high, word = -high, -low, "below"
    return f"{decimal(abs(found.difference))} [{decimal(low)}, {decimal(high)}] {word}"


def _lists(audit: "Audit", winner: "MethodResult") -> str:
    first = audit.methods[0]
    subjects = [winner] if winner is first else [winner, first]
    place = audit.shifted[-1]
    parts = [
        f"{method.label} gives {_percent(method.lists[place]['head_share'])} of its places to head "
        f"items and reaches {100 * method.lists[place]['coverage'].mean:.3g} % of the items"
        for method in subjects
    ]
    truth = next(info for info in audit.sets if info.name == place)
    return (
        f"Lists ({place}): {'; '.join(parts)}. Of that set's positives "
        f"{100 * truth.head_share:.0f} % are head items."
    )


def _cautions(audit: "Audit") -> list[str]:
    cautions = []
    if max(len(method.runs) for method in audit.methods) == 1:
        cautions.append(
            "One seed each: the intervals are over users and say nothing about another training."
        )
    if audit.kind != "runs" and audit.settings.get("preset") is None:
        cautions.append(
            "All methods trained with the same settings, tuned for none of them: tune and give the "
            "preset (--preset) before a decision hangs on it."
        )
    hurried = [
        method.label
        for method in audit.methods
        if any(r["stopped"] == "epochs" and r["best_epoch"] == r["epochs"] for r in method.runs)
    ]
    if hurried and audit.kind != "runs":
        were = "was" if len(hurried) == 1 else "were"
        cautions.append(
            f"{_listed(hurried)} {were} still improving on validation when the epochs ran out: "
            "give more (--set epochs=N)."
        )
    resting = [
        method
        for method in audit.methods
        if all(run["adversary_passes"] == 0 for run in method.runs)
    ]
    cautions += [
        f"{method.label} was trained as good as without its adversary, which had not moved yet in "
        "the weights that were kept: give it a turn earlier "
        f"(--set {method.method}.adv_interval=N)."
        for method in resting
    ]
    if audit.reference == "valid":
        cautions.append(
            "There is no test set 'id': valid stands for it, which also picked the epochs and "
            "flatters every method a little."
        )
    return cautions


def _with_interval(found: Estimate) -> str:
    return f"{decimal(found.mean)} [{decimal(found.low)}, {decimal(found.high)}]"


def _percent(found: Estimate) -> str:
    if found.mean != found.mean:  # NaN: nothing in distribution to keep
        return "no share"
    return f"{100 * found.mean:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def _sure(found: Difference | None) -> str:
    if found is None:
        return "not tested"
    p = "p < .001" if found.p_holm < 0.001 else f"p {decimal(found.p_holm, digits=3)}"
    word = "significant" if found.p_holm <= SIGNIFICANT else "not significant"
    return f"{word} (corrected {p})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
