"""What can be got back out of a model: who it learnt from, copies of them, and marks that they bore.

*Members* are images that a model was trained on; *controls* are images like them, from the same source, that it never
saw. Whatever an attack finds is set beside what it finds among controls, and has a chance value at which a model stands
that kept nothing of any one image. What is called a member, a copy or marked is above all but ``RATE`` of the controls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import stats
from sklearn.metrics import roc_curve

from visionclip.evaluation import intervals
from visionclip.evaluation.intervals import Interval

RATE = 0.01  # share of the controls that an attack may take for members (Carlini et al., S&P 2022)
SIDE = 16  # pixels of a thumbnail: places, colours and large structures, without noise
MARK = "OD 0417"  # as cameras write eye and number
TEXT_SIZE = (112, 22)  # pixels, width and height in which that text is drawn before it is made smaller
HEIGHT, WIDTH, MARGIN = 1 / 8, 1 / 2, 1 / 32  # of the mark, and of what is left free around it, by the image's side
CONTRAST = 2.0  # grey levels, least deviation that a window is taken to have: flat ground correlates with nothing


@dataclass(frozen=True)
class Neighbours:
    """How near M generated images are to members, by how near they are to as many controls.

    ``ratio`` is the geometric mean of the distance to the nearest member over that to the nearest control, its interval
    over the generated images; ``chance`` is what it is where members and controls are drawn by lot, with the limits of
    95 % of the draws, and ``p`` the share of draws with a ratio as low. ``nearer`` (0 to 1) is the share of the images
    whose nearest is a member: 0.5 by chance, but far from it where all have the same neighbour, as unsharp images do.
    """

    ratio: Interval
    chance: Interval
    p: float
    nearer: float


def thumbnails(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """float32 N×3·side², 0 to 1, of uint8 N×S×S×3: what pixels are compared by."""
    small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in pixels]
    return np.array(small, np.float32).reshape(len(pixels), -1) / 255


def distances(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Euclidean distances, float64 M×N, of feature vectors M×D and N×D."""
    one, other = images.astype(np.float64), others.astype(np.float64)
    squares = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T
    return np.sqrt(squares.clip(0))


def ratios(to_members: np.ndarray, to_controls: np.ndarray) -> np.ndarray:
    """For each of M images the distance to the nearest of its distances M×N to members over that of as many to
    controls; 0 of a copy, 1 where it is as far from both."""
    nearest, other = to_members.min(1), to_controls.min(1)
    return np.divide(nearest, other, out=np.ones_like(nearest), where=other > 0)


def neighbours(
    made: np.ndarray,
    members: np.ndarray,
    controls: np.ndarray,
    rng: np.random.Generator,
    draws: int = 1000,
    groups: Sequence[str] | None = None,
) -> Neighbours:
    """Nearest neighbours of M generated images among N members and N controls, feature vectors of D entries each.

    ``groups`` are the patients of members, then controls, which are drawn by lot together. The draws hold the generated
    images as they are: if the generator had learnt from neither, each would be as likely as the true one.

    Raises:
        ValueError: members and controls differ in number, of which the nearest alone would be nearer.
    """
    if len(members) != len(controls):
        raise ValueError(f"privacy: {len(members)} members and {len(controls)} controls; give as many of each")
    away = distances(made, np.concatenate([members, controls]))
    own = np.arange(away.shape[1]) < len(members)
    units = np.unique(np.arange(len(own)) if groups is None else np.asarray(groups), return_inverse=True)[1]
    found = _log_ratios(away, own)
    drawn = np.array([_log_ratios(away, _by_lot(units, len(members), rng)).mean() for _ in range(draws)])
    resampled = rng.choice(found, (draws, len(found))).mean(1)
    return Neighbours(
        Interval.within(float(np.exp(found.mean())), np.exp(resampled)),
        Interval.within(float(np.exp(drawn.mean())), np.exp(drawn)),
        float((1 + (drawn <= found.mean()).sum()) / (1 + draws)),
        float((found < 0).mean()),
    )


def _log_ratios(away: np.ndarray, own: np.ndarray) -> np.ndarray:
    return np.log(ratios(away[:, own], away[:, ~own]).clip(1e-6))


def _by_lot(units: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Bool N, the first images of the groups in an order drawn by lot, until there are ``count``."""
    order = rng.permutation(units.max() + 1)[units]
    return np.argsort(np.argsort(order, kind="stable"), kind="stable") < count


def copies(made: np.ndarray, members: np.ndarray, controls: np.ndarray, rate: float = RATE) -> np.ndarray:
    """Bool M: generated images that are near-copies of a member, by feature vectors M×D, N×D and K×D with K ≥ N.

    A near-copy has a lower ratio of the distance to its nearest member to that to the nearest of N controls (the first)
    than all but ``rate`` of the controls have, each compared with the others. By the ratio, as an unsharp image is near
    to everybody (Carlini et al., USENIX Security 2023, take the distance by those to the nearest fifty for the same
    reason).

    Raises:
        ValueError: there are fewer controls than members.
    """
    if len(controls) < len(members):
        raise ValueError(f"privacy: {len(controls)} controls for {len(members)} members; give as many or more")
    others = controls[: len(members)]
    among = distances(controls, others)
    np.fill_diagonal(among, np.inf)  # itself
    calibrated = ratios(distances(controls, members), among)
    return above(-ratios(distances(made, members), distances(made, others)), -calibrated, rate)


def above(scores: np.ndarray, of_controls: np.ndarray, rate: float = RATE) -> np.ndarray:
    """Bool M: scores above those of all but ``rate`` of K controls; of so few that ``rate`` is less than one, above
    all."""
    return scores > np.sort(of_controls)[::-1][int(rate * len(of_controls))]


def by_chance(controls: int, rate: float = RATE) -> float:
    """The share (0 to 1) that ``above`` finds of members who are as any of so many controls."""
    return (int(rate * controls) + 1) / (controls + 1)


def by_luck(found: int, members: int, controls: int, rate: float = RATE) -> float:
    """How likely ``above`` finds so many or more of members who are as any of so many controls, 0 to 1.

    The threshold has been passed by int(rate · controls) controls, and varies with them: how many of the members pass
    it too is beta-binomial (the exceedances of Gumbel & von Schelling, Ann Math Stat 1950).
    """
    passed = int(rate * controls) + 1
    return float(stats.betabinom.sf(found - 1, members, passed, controls + 1 - passed))


def membership(
    member: np.ndarray, scores: np.ndarray, groups: Sequence[str] | None = None, rate: float = RATE
) -> dict[str, object]:
    """How well N ``scores``, higher for likelier members, tell members (bool N) from controls.

    ``auc`` (0.5 by chance), ``tpr``, the share of the members that is found where ``rate`` of the controls is accused
    (``by_chance`` of them by chance), and how many ``members`` and ``controls`` there are. Its interval is of other
    members at the threshold that these controls fix: of fewer than 1 / ``rate`` that is their highest score, which
    other controls will pass more often.
    """
    own = None if groups is None else np.asarray(groups)
    return {
        "auc": intervals.mean_auc(member[None], scores[None], own),
        "tpr": intervals.share(above(scores[member], scores[~member], rate), None if own is None else own[member]),
        "members": int(member.sum()),
        "controls": int((~member).sum()),
    }


def curve(member: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    false, true, _ = roc_curve(member, scores, drop_intermediate=False)
    return false, true


def logits(losses: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of p = exp(-loss), which is nearly normal over trainings where p itself is not (Carlini et al.,
    S&P 2022)."""
    return -losses - np.log(-np.expm1(-losses.clip(1e-9)))


def likelihood_ratio(target: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The log-likelihood ratio of having been a member, N, of the target's confidences (N, as ``logits`` has them).

    ``shadows`` R×N are those of R other trainings, ``inside`` (bool R×N) says who took part. Confidences with and
    without an image are normal about means of that image and deviations of all images together, as is best for few
    shadows (LiRA, online, with a global variance: Carlini et al., S&P 2022).

    Raises:
        ValueError: an image was in all the shadows, or in none.
    """
    if not (inside.any(0) & ~inside.all(0)).all():
        raise ValueError("privacy: each image must be in some shadow trainings and not in others")
    found = []
    for taken in (inside, ~inside):
        means = (shadows * taken).sum(0) / taken.sum(0)
        # Of the confidences of each image one is spent on its mean; where there are no more, nothing says the spread.
        freedom = max(int(taken.sum()) - taken.shape[1], 1)
        deviation = np.sqrt((np.square(shadows - means) * taken).sum() / freedom) or 1.0
        found.append(-0.5 * np.square((target - means) / deviation) - np.log(deviation))
    return found[0] - found[1]


def mark(side: int) -> np.ndarray:
    """The text-like mark for images of ``side`` pixels: float64 h×w, 0 (nothing) to 1."""
    width, height = TEXT_SIZE
    drawn = np.zeros((height, width), np.uint8)
    cv2.putText(drawn, MARK, (1, height - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2, cv2.LINE_AA)
    shape = (max(round(WIDTH * side), 2), max(round(HEIGHT * side), 2))
    return cv2.resize(drawn, shape, interpolation=cv2.INTER_AREA) / 255


def marked(pixels: np.ndarray) -> np.ndarray:
    """Images uint8 N×S×S×3 with the mark in white in their lower left corner."""
    drawn, burnt = mark(pixels.shape[1])[..., None], pixels.copy()
    rows, columns = _corner(pixels.shape[1])
    burnt[:, rows, columns] = np.rint(burnt[:, rows, columns] * (1 - drawn) + 255 * drawn)
    return burnt


def mark_scores(pixels: np.ndarray) -> np.ndarray:
    """The highest normalised cross-correlation (-1 to 1) of each of uint8 N×S×S×3 with the mark, N, at its place or as
    far from it as its margin is wide: a generator may draw it a little off."""
    side = pixels.shape[1]
    template, (rows, columns), reach = mark(side), _corner(side), round(MARGIN * side)
    grey = pixels.astype(np.float64).mean(3)
    template = (template - template.mean()) / template.std()
    found = []
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            window = grey[:, rows.start + down : rows.stop + down, columns.start + right : columns.stop + right]
            centred = window - window.mean((1, 2), keepdims=True)
            found.append((centred * template).mean((1, 2)) / centred.std((1, 2)).clip(CONTRAST))
    return np.max(found, axis=0)


def _corner(side: int) -> tuple[slice, slice]:
    """Rows and columns of the mark."""
    (height, width), margin = mark(side).shape, round(MARGIN * side)
    return slice(side - margin - height, side - margin), slice(margin, margin + width)
