"""What a trial is believed to lose in general: what it lost on the selection rows, drawn towards
what the answers that it changes usually cost.

The best of many trials is partly the luckiest: its drop on a few hundred rows flatters it. How many
answers a compressed model changes is known far better than whether it changes them for the worse,
and tells most of what it will lose.
"""

LOST_OF_CHANGED, STRAY_OF_CHANGED = 0.15, 0.12
"""Of the share of answers changed, what of it is a loss: mean and standard deviation over
compressed models, rounded (`lost_of_changed` in results/promise.json of benchmarks/promise.py)."""


def believed(drop: float, error: float, changed: float) -> tuple[float, float]:
    """Mean and standard deviation of the loss of a share of rows, given the drop on some rows with
    its standard error, and the share of their answers that changed: the normal posterior
    (empirical Bayes, Efron and Morris 1973, JASA 68, 117-130). No loss exceeds what changed."""
    usual, stray = LOST_OF_CHANGED * changed, STRAY_OF_CHANGED * changed
    if error == 0 or stray == 0:
        return min(drop, changed), 0.0
    weight = stray**2 / (stray**2 + error**2)
    mean = weight * drop + (1 - weight) * usual
    return min(mean, changed), stray * (1 - weight) ** 0.5
