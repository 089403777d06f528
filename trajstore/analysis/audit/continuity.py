"""Breaks in a run: steps at which its losses do not continue as training would have them.

Everything is judged against the run itself, by distances between steps (root mean squares over tokens, nats), so that
neither the noise of a high learning rate nor its end under a cosine counts. With d the distances of a run's steps:

- near copies: steps whose distance is less than a twentieth of the next to any other step;
- of the end: a stretch of steps as near to the last as its own neighbours are, where the step before lies well
  outside and later ones do again (a loss spike does not: what stands before it comes near by degrees);
- unlike its neighbours: the excess of a step, [d²(a, t) + d²(t, b) − d²(a, b)] / 2 for steps a before and b after it,
  is what its own noise adds to a smooth path. It is compared with the excess of the steps around, but for the largest;
- breaks: two neighbours far apart, where on either side steps lie close, measured between single steps and between
  means of two and three on either side, and corrected for how far apart the steps are; and between the medians of five
  on either side, less those within them, so that noise drops out, where they are less than an octave apart.

The last two leave out what moves the mean loss: a spike is far from its neighbours, but raises it, and the fast
learning of a run's beginning lowers it. What hides: another seed's weights where steps are so far apart, as with a step
per octave, or noise so high, that seeds differ no more than neighbours do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trajstore.analysis.arrays import Floats
from trajstore.analysis.audit.misplaced import FEWEST
from trajstore.analysis.audit.step_summaries import RunSummary

_COPY = 0.05
_FAR = 0.6
"""Octaves between the steps before and after one above which what is learned differs much from step to step."""
_INSIDE = 1.3
_OUTSIDE = 2.0
_EXCESS, _MORE, _FEW = 1.43, 0.06, 21
"""The largest of more steps is larger by chance, by so much in every doubling of a few."""
_AT_ENDS = 0.93
"""Beside the first and last step two neighbours are fewer, and chance is more."""
_RAISED = 0.25
_MOVED, _WIDE_MOVED = 0.2, 0.3
_BREAKS = {1: 1.5, 2: 1.6, 3: 1.55}
"""Least ratio of the distance across a break to the distances around it, by the number of steps on either side."""
_WIDE, _WIDE_BREAK = 5, 2.0
"""Steps on either side by which a break is seen through the noise, and how much farther than around."""
_NOISE = 0.3
"""Part of the noise of a step (as a square) that counts as the usual distance at least."""
_WIDTH = 4
_SUDDEN, _SHARE = 4.0, 0.3
"""A sudden fall of the mean loss is more than so many times the moves around it, and than this share of the way."""


def near_copies(apart: np.ndarray) -> list[list[int]]:
    """Sets of rows whose losses are nearly the same, each ascending."""
    n = len(apart)
    if n < 3:
        return []
    others = apart + np.diag(np.full(n, np.inf))
    pace = float(np.quantile(np.diag(apart, 1), 0.75))  # of the run, not of the copies in it
    order = np.sort(others[np.triu_indices(n, 1)])
    # Single linkage: whatever is nearer than the largest gap among the smallest distances is one set.
    copies: list[list[int]] = []
    for limit in _gaps(order):
        for group in _linked(others < limit):
            outside = np.delete(others[group], group, axis=1)
            widest = apart[np.ix_(group, group)].max()
            if 1 < len(group) < n and widest < _COPY * min(pace, outside.min()):
                copies = [other for other in copies if not set(other) <= set(group)]
                copies.append(group)
    return sorted(copies)


def _gaps(order: np.ndarray) -> list[float]:
    """Distances right above a jump by the factor that sets copies apart, ascending; at most eight."""
    low, high = np.maximum(order[:-1], 1e-12), order[1:]
    return [float(high[at]) for at in np.flatnonzero(low < _COPY * high)[:8]]


def _linked(near: np.ndarray) -> list[list[int]]:
    """Sets of rows that are linked."""
    from scipy.sparse.csgraph import connected_components

    count, of_row = connected_components(near, directed=False)
    return [np.flatnonzero(of_row == number).tolist() for number in range(count)]


def of_the_end(apart: np.ndarray) -> list[int]:
    """Rows that lie where the run ends though later ones do not."""
    n = len(apart)
    if n < FEWEST:
        return []
    height = apart[-1]
    around = np.median(height[-6:-1])
    inside = height <= _INSIDE * around
    inside[-1] = True
    runs = _runs(inside)
    rows: list[int] = []
    for first, last in runs[:-1]:
        # Coming near by degrees, it is the run itself that has got there; later holes are spikes.
        if first > 0 and height[first - 1] <= _OUTSIDE * around:
            break
        if (height[last:] > _OUTSIDE * around).any():
            rows.extend(range(first, last + 1))
    return rows


def _runs(inside: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of each stretch that is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def excess(apart: Floats) -> Floats:
    """Return what each row's own noise adds to a smooth path, nats², (rows,); NaN at both ends."""
    squares, n = apart**2, len(apart)
    added = np.full(n, np.nan)
    for t in range(1, n - 1):
        of_pairs = sorted(
            (squares[a, t] + squares[t, b] - squares[a, b]) / 2
            for a in (t - 1, t - 2)
            if a >= 0
            for b in (t + 1, t + 2)
            if b < n
        )
        added[t] = of_pairs[(len(of_pairs) - 1) // 2]  # one of the four neighbours may be odd itself
    return added


def exceeding(steps: Sequence[int], apart: Floats) -> Floats:
    """Return the ratio of each row's excess to that of the rows around it, as a root, (rows,); 0 at both ends."""
    own = np.nan_to_num(excess(apart))
    usual = _usual(steps, own, apart)
    ratio = np.divide(np.maximum(own, 0), usual, out=np.zeros(len(own)), where=usual > 0)
    return np.sqrt(ratio)


def _usual(steps: Sequence[int], own: Floats, apart: Floats) -> Floats:
    """The excess that rows around each row have, nats², (rows,); 0 where too few are."""
    n, octaves = len(apart), np.log2(1 + np.asarray(steps, dtype=float))
    usual = np.zeros(n)
    for t in range(1, n - 1):
        nearby = [own[s] for s in range(max(1, t - _WIDTH), min(n - 1, t + _WIDTH + 1)) if s != t]
        paces = [
            apart[s, s + 1] ** 2
            for s in range(max(0, t - _WIDTH), min(n - 1, t + _WIDTH))
            if s not in (t - 1, t)
        ]
        if len(nearby) > 1 and paces:
            # One neighbour may be odd itself, and with it two paces. Steps far apart also differ by what is learned.
            nearby.sort()
            high, pace = float(np.mean(nearby[-4:-1])), float(np.sort(paces)[(len(paces) - 1) // 2])
            if octaves[t + 1] - octaves[t - 1] > _FAR:
                high, pace = nearby[-2], float(np.median(paces))
            usual[t] = max(high, 0.5 * pace)  # of noise alone, the excess is half the square of a pace
    return usual


def unlike_neighbours(steps: Sequence[int], apart: np.ndarray, means: np.ndarray) -> list[int]:
    """Rows that lie off the path of those around them without a raised mean, the clearest first."""
    rows = list(range(len(apart)))
    least = _EXCESS + _MORE * np.log2(max(1.0, len(rows) / _FEW))
    unlike: list[int] = []
    while len(rows) >= FEWEST:
        part, level = apart[np.ix_(rows, rows)], means[rows]
        ratio = exceeding([steps[row] for row in rows], part)
        ratio[[1, -2]] *= _AT_ENDS
        off = np.sqrt(np.maximum(np.nan_to_num(excess(part)), 0))
        raised = level[1:-1] - np.maximum(level[:-2], level[2:])
        ratio[1:-1][raised > _RAISED * off[1:-1]] = 0
        worst = int(ratio.argmax())
        if ratio[worst] < least:
            break
        unlike.append(rows.pop(worst))
    return unlike


def breaks(steps: Sequence[int], apart: np.ndarray, means: np.ndarray) -> list[int]:
    """Rows from which on the run is elsewhere at the same level, ascending."""
    if len(steps) < FEWEST:
        return []
    clear = np.zeros(len(steps))
    for width, least in _BREAKS.items():
        clear = np.maximum(clear, _jumps(np.asarray(steps, dtype=float), apart, means, width) / least)
    places = []
    while clear.max(initial=0) >= 1:
        at = int(clear.argmax())
        places.append(at + 1)
        clear[max(0, at - 3) : at + 4] = 0  # wider windows see it beside its place
    # A spike among five steps shifts their medians too.
    calm = [t for t in range(len(steps)) if not _is_raised(t, apart, means)]
    wide = _wide_breaks([steps[t] for t in calm], apart[np.ix_(calm, calm)], means[calm])
    for number in wide:
        at, before, after = calm[number], calm[max(0, number - 3) : number], calm[number : number + 3]
        if at - 1 not in calm and np.median(apart[at - 1, after]) < np.median(apart[at - 1, before]):
            at -= 1
        if all(abs(at - other) > _WIDE for other in places):
            places.append(at)
    return sorted(places)


def _is_raised(t: int, apart: np.ndarray, means: np.ndarray) -> bool:
    """Return whether the mean of a row is above those of both neighbours by much of its distance from them."""
    if not 0 < t < len(means) - 1:
        return False
    return bool(means[t] - max(means[t - 1], means[t + 1]) > _RAISED * min(apart[t, t - 1], apart[t, t + 1]))


def _wide_breaks(steps: Sequence[int], apart: np.ndarray, means: np.ndarray) -> list[int]:
    """Breaks by the medians of distances among up to `_WIDE` steps on either side, which noise adds nothing to."""
    n, squares = len(steps), apart**2
    axes = np.asarray(steps, dtype=float), np.log2(1 + np.asarray(steps, dtype=float))
    spans, peaks, noise = (np.full(n, np.nan) for _ in range(3))
    widths = np.ones((2, n))
    level = np.zeros(n, bool)
    places = range(2, n - 3)
    for t in places:
        width = min(_WIDE, t + 1, n - 1 - t)
        before, after = slice(t - width + 1, t + 1), slice(t + 1, t + 1 + width)
        pairs, across = np.triu_indices(width, 1), squares[before, after]
        sides = [squares[part, part][pairs] for part in (before, after)]
        within = float(np.mean([np.median(side) for side in sides]))
        spans[t] = np.median(across) - within
        peaks[t] = across.mean() - np.mean([side.mean() for side in sides])
        noise[t] = within / 2
        widths[:, t] = [axis[after].mean() - axis[before].mean() for axis in axes]
        moves = means[t + 1] - means[t], np.median(means[after][:3]) - np.median(means[before][-3:])
        # Over more than an octave, what is learned moves tokens as far as another seed does.
        level[t] = max(abs(moves[0]), abs(moves[1])) ** 2 < _WIDE_MOVED**2 * spans[t] and widths[1, t] < 1
    clear = np.zeros(n)
    for t in (t for t in places if level[t]):
        around = []
        for side in (range(t - _WIDE - 2, t - _WIDE + 2), range(t + _WIDE - 1, t + _WIDE + 3)):
            scaled = [
                spans[u] * max(1.0, float((widths[:, t] / widths[:, u]).min())) ** 2
                for u in side
                if u in places
            ]
            around.append(float(np.median(scaled)) if scaled else 0)
        # What spoils the distances on both sides leaves nothing to judge by.
        if max(around) > 0:
            clear[t] = np.sqrt(spans[t] / max(*around, _NOISE * noise[t])) / _WIDE_BREAK
    rows = []
    while clear.max(initial=0) >= 1:
        at = int(clear.argmax())
        near = [t for t in range(at - 2, at + 3) if t in places]
        rows.append(max(near, key=lambda t: float(peaks[t])) + 1)
        clear[max(0, at - _WIDE) : at + _WIDE + 1] = 0
    return rows


def _jumps(steps: np.ndarray, apart: np.ndarray, means: np.ndarray, width: int) -> np.ndarray:
    """Return, after each row, the distance between the means of `each` rows on either side, relative to the distances
    around it.
    """
    n = len(steps)
    squares, octaves = apart**2, np.log2(1 + steps)
    spans = np.zeros(n)
    widths = np.ones((2, n))
    moved = np.zeros(n)
    places = range(width - 1, n - width)
    for t in places:
        before, after = slice(t - width + 1, t + 1), slice(t + 1, t + 1 + width)
        within = squares[before, before].mean() + squares[after, after].mean()
        spans[t] = squares[before, after].mean() - within / 2
        for kind, axis in enumerate((steps, octaves)):
            widths[kind, t] = axis[after].mean() - axis[before].mean()
        moved[t] = abs(means[after].mean() - means[before].mean())
    ratios = np.zeros(n)
    for t in places:
        sides = [u for u in (t - width, t + width) if u in places]
        across = spans[t]
        if width == 1 and 1 <= t < n - 2:
            across = squares[t - 1 : t + 1, t + 1 : t + 3].min()  # one bad step is no break
        level = [u for u in sides if moved[u] ** 2 < 0.5**2 * spans[u]]  # no edge of a spike
        usual = max(
            (spans[u] * max(1.0, float((widths[:, t] / widths[:, u]).min())) ** 2 for u in level or sides),
            default=0.0,
        )
        if len(sides) == 2 and usual > 0 and moved[t] ** 2 < _MOVED**2 * across:
            ratios[t] = np.sqrt(across / usual)
    return ratios


def sudden_falls(summary: RunSummary) -> list[tuple[int, int]]:
    """(first, last) steps around each sudden fall of the mean loss, from two before it to two after it.

    A fall is sudden where it is much of the distance between its two steps, and by doubling of the step several times
    the moves of the mean around it: training has learned something at once, such as to copy, which moves the losses of
    other texts as well.
    """
    steps, falls = summary.steps, -np.diff(summary.means)
    rates = falls / np.diff(np.log2(1 + np.asarray(steps, dtype=float)))
    stretches = []
    for t, fall in enumerate(falls):
        around = np.abs(np.delete(rates[max(0, t - _WIDTH) : t + _WIDTH + 1], min(t, _WIDTH)))
        usual = float(np.median(around)) if len(around) else np.inf
        if rates[t] > _SUDDEN * usual and fall > _SHARE * summary.apart[t, t + 1]:
            stretches.append((steps[max(0, t - 1)], steps[min(len(steps) - 1, t + 3)]))
    return stretches


def perplexities(summary: RunSummary) -> list[int]:
    """Rows whose logarithms are near their neighbours, which the rows themselves are far from."""
    near, apart, n = _near(summary.apart), summary.apart, len(summary.steps)
    rows = []
    for row in range(n):
        around = range(max(0, row - _WIDTH), min(n - 1, row + _WIDTH))
        paces = [apart[s, s + 1] for s in around if row not in (s, s + 1)]
        skewed = summary.products[row, row] > 2 * summary.means[row] ** 2
        if skewed and paces and summary.logarithm[row] < min(0.5 * near[row], 1.5 * float(np.median(paces))):
            rows.append(row)
    return rows


def shuffled(summary: RunSummary) -> list[int]:
    """Rows with their neighbours' losses in another order of tokens."""
    alike, near = summary.alike(), _near(summary.apart)
    rows = []
    for row in range(len(summary.steps)):
        beside = [s for s in range(max(0, row - 2), min(len(alike), row + 3)) if s != row]
        among = [alike[a, b] for a in beside for b in beside if a < b]
        if not among or summary.ordered[row] > 0.5 * near[row]:
            continue
        own = alike[row, beside].max()
        if own < 0.4 and max(among) > own + 0.4:
            rows.append(row)
    return rows


def _near(apart: np.ndarray) -> np.ndarray:
    """Distance of each row from the nearest of two on either side, (rows,)."""
    n = len(apart)
    nearest = np.full(n, np.inf)
    for row in range(n):
        beside = [s for s in range(max(0, row - 2), min(n, row + 3)) if s != row]
        nearest[row] = apart[row, beside].min(initial=np.inf)
    return nearest
