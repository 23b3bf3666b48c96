"""A judgement as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .judge import Judgement

__all__ = ["plot_confusion"]


def plot_confusion(judgement: Judgement, ax: Any = None) -> Any:
    """The confusion matrix on matplotlib axes, new ones unless given.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        ax = plt.subplots(figsize=(5, 4))[1]
    table, columns = judgement.confusion, judgement.labels
    rows = [label for label in columns if any(pair[0] == label for pair in table)]
    counts = [[table.get((a, b), 0) for b in columns] for a in rows]
    ax.imshow(counts or [[0]], cmap="Blues")
    ax.set_xticks(range(len(columns)), [str(c) for c in columns], rotation=30, ha="right")
    ax.set_yticks(range(len(rows)), [str(r) for r in rows])
    top = max((max(line) for line in counts), default=0)
    for y, line in enumerate(counts):
        for x, number in enumerate(line):
            color = "white" if number > top / 2 else "black"
            ax.text(x, y, str(number), ha="center", va="center", color=color)
    low, high = judgement.interval
    accuracy = "-" if judgement.accuracy is None else f"{judgement.accuracy:.1%}"
    ax.set(xlabel="answer", ylabel="label", title=f"accuracy {accuracy} ({low:.0%} to {high:.0%})")
    return ax
