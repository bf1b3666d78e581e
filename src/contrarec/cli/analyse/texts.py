"""What a person reads of each analysis."""

from typing import Any

from contrarec.cli.console import table


def _head(result: dict[str, Any]) -> str:
    return (
        f"{result['run']}: {result['backbone']} with {result['loss']} on {result['data']}, seed "
        f"{result['seed']}, weights of epoch {result['best_epoch']}"
    )


def hardness_text(result: dict[str, Any]) -> str:
    """Lay out how much each negative counts."""
    state = result["state"]
    names = ["mean", "sd", "q05", "median", "q95", "below_zero", "weight", "uniform"]
    rows: list[list[Any]] = [["group", "items", *names]]
    for name, figures in state["groups"].items():
        rows.append([name, figures["items"], *(figures[key] for key in names)])
    at = ("mean", "q05", "median", "q95")
    trace: list[list[Any]] = [["epoch", "kl mean", "q05", "median", "q95"]]
    trace += [[line["epoch"], *(line["kl"][key] for key in at)] for line in result["trace"]]
    parts = [
        _head(result),
        f"Hardness delta = log(n·p) of {state['pairs']} pairs of {state['users']} users:",
        table(rows),
        f"KL to uniform over users: mean {state['kl']['mean']:.4f}, 5 % {state['kl']['q05']:.4f}, "
        f"95 % {state['kl']['q95']:.4f} nats",
        *([table(trace)] if result["trace"] else []),
        "Hardest: " + _list_text(result["items"]["hardest"]),
        "Judged false: " + _list_text(result["items"]["judged_false"]),
        *(
            f"user {row['user_id']}: hardest {_list_text(row['hardest'])}; judged false "
            f"{_list_text(row['judged_false'])}"
            for row in result["pairs"]
        ),
    ]
    return "\n\n".join(parts)


def _list_text(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['item_id']} ({row['delta']:+.3f})" for row in rows) or "none"


def false_negatives_text(result: dict[str, Any]) -> str:
    """Lay out whether the adversary finds false negatives."""
    state = result["state"]
    rows: list[list[Any]] = [["detector", "auc", "from", "to", "rate", "below_zero", "lift"]]
    for name, found in state["detectors"].items():
        area = [found["auc"][key] for key in ("mean", "low", "high")]
        rate, lift = found["rate"]["mean"], found["lift"]["mean"]
        rows.append([name, *area, rate, found["below_zero"], lift])
    trace: list[list[Any]] = [["epoch", "auc", "from", "to", "kl"]]
    for line in result["trace"]:
        area = line["detectors"]["adversary"]["auc"]
        trace.append([line["epoch"], *(area[key] for key in ("mean", "low", "high")), line["kl"]])
    parts = [
        _head(result),
        f"Known false negatives ({result['truth']}): {state['false_negatives']} among "
        f"{state['pairs']} candidates of {state['users']} users; per user "
        f"{state['base_rate']['mean']:.4f} of the candidates.",
        result["verdict"],
        table(rows),
        *(["Over training, the adversary:\n" + table(trace)] if result["trace"] else []),
    ]
    return "\n\n".join(parts)


def geometry_text(result: dict[str, Any]) -> str:
    """Lay out where the vectors lie."""
    names = ("alignment", "uniformity_users", "uniformity_items")
    rows: list[list[Any]] = [["epoch", *names]]
    rows += [[line["epoch"], *(line[name] for name in names)] for line in result["trace"]]
    rows.append(["kept", *(result["state"][name] for name in names)])
    (first, second), (one, two) = (
        result["plane"]["explained"],
        result["plane"]["popularity_correlation"],
    )
    return "\n\n".join(
        [
            _head(result),
            table(rows),
            f"The items' two main directions hold {first:.1%} and {second:.1%} of their variance; "
            f"their rank correlation with popularity is {one:.2f} and {two:.2f}.",
        ]
    )


def dro_text(result: dict[str, Any]) -> str:
    """Lay out the losses within the KL ball."""
    state = result["state"]
    rows: list[list[Any]] = [["weights", "kl", "loss", "from", "to"]]
    kl = state["achieved"]["kl"]
    named = [("uniform", 0.0, state["uniform"]), ("the adversary's", kl, state["achieved"])]
    named += [("worst at its kl", kl, state["worst_at_kl"])]
    named += [("worst", line["eta"], line) for line in state["curve"]]
    rows += [[name, at, *(found[k] for k in ("loss", "low", "high"))] for name, at, found in named]
    share = state["share"]
    did = "" if share is None else f"The adversary does {share:.0%} of the harm its KL allows. "
    return "\n\n".join(
        [
            _head(result),
            table(rows),
            f"{did}{state['rows']} rows of {state['n_neg']} negatives; largest gap between primal "
            f"and dual: {state['dual_gap']:.1e}.",
        ]
    )
