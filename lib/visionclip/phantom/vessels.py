"""Retinal vessels, grown: arcades, then twigs that fill the retina, calibres after Murray's law.

A tree grows in the frame of a standard eye (``FOVEA``), where its twigs steer towards the fovea or the periphery, keep
clear of their own tree and, less so, of the other one. ``POOL`` pairs of trees are grown once a process; each eye takes
one, mirrors it or not, bends it smoothly and turns it to its own fovea, so that none looks like another.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.spatial import cKDTree

from visionclip import streams
from visionclip.phantom.eye import SHIFT, Eye

ARTERY, VEIN = (0.05, 0.33, 0.25), (0.20, 0.45, 0.36)  # share of the light that a full vessel absorbs, R G B
ARTERY_CALIBRE, VEIN_CALIBRE = 0.061, 0.086  # width of the largest vessel at the disc, DD
OPAQUE = 0.03  # width of blood that takes two thirds of the light that a wide vessel takes, DD
MARKED = 0.12  # share of a full vessel's blood from which a pixel counts in the mask: 4-5 % contrast in green
UNEVEN = 0.07  # by how much the calibre of a vessel varies along it
FINEST, GRADE = 0.006, 0.25  # width of the finest line that is drawn, DD, and the step of widths to the next, log

POOL = 128  # pairs of trees
STEP = 0.09  # DD between the nodes of a vessel
FOVEA = np.array((2.47, 0.0))  # of the standard eye, DD from the disc centre
CENTRE, REACH = np.array((1.2, 0.0)), 5.7  # trees fill this circle, DD
BEYOND = 0.6  # flow of a vessel that leaves it, DD
FRAME = 6.2  # half the side of the square round CENTRE that is bent for an eye, DD
CELL, CELLS = 0.06, 200  # grid of what is taken: DD a cell, cells a side
SENSE = 2  # cells of it in a cell of the coarse grid, on which twigs feel each other
ROOM = np.array(((0.5, 1.0), (1.8, 2.3)))  # crowding up to which a twig branches and lives: outside the arcades, inside
LAST_FORK = 5  # steps from the root up to which a trunk divides into temporal and nasal
DISC_TWIGS = (((95, 145, 2), (140, 190, 3)), ((15, 60, 2), (60, 110, 2)))  # on nasal and temporal trunks: angles, count
AHEAD = 16  # steps that the branches of the trunks grow before the twigs
SHORTEST = 5  # nodes of a vessel that is no stub


@dataclass(frozen=True)
class Tree:
    """Vessels as a tree of N nodes.

    ``points`` N×2 in DD; ``parents`` N (-1 at a root, else below the node's own number); ``flow`` N: what a node
    supplies, the length of all vessels behind it in DD: flows add up where vessels join, and the cube of the calibre
    goes with them (Murray, PNAS 1926). ``calibres`` N: 1 for the largest vessel at the disc's edge. ``walk``: nodes of
    one vessel after the other, each from the node of its mother that it leaves to its end; ``starts``: where in
    ``walk`` a vessel begins.
    """

    points: np.ndarray
    parents: np.ndarray
    flow: np.ndarray
    calibres: np.ndarray
    walk: np.ndarray
    starts: np.ndarray


def _wander(rng: np.random.Generator, count: int, size: float, memory: float = 0.85) -> np.ndarray:
    """Smooth noise of standard deviation ``size`` along ``count`` nodes."""
    noise = rng.normal(0, size * np.sqrt(1 - memory**2), count)
    for index in range(1, count):
        noise[index] += memory * noise[index - 1]
    return noise


def _arcades(rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Trunks of arteries and of veins, four each: superior and inferior, temporal and nasal; K×2 in DD.

    Headings swing from near vertical at the disc to horizontal above and below the macula. The nasal trunk leaves the
    temporal one within the disc or soon after it, that of the vein elsewhere than that of the artery. A vein keeps
    beside its artery, changes sides now and then, and leaves it more and more towards the periphery.
    """
    arc = np.arange(0, 8.5, STEP)
    arteries: list[np.ndarray] = []
    veins: list[np.ndarray] = []
    root = np.array((-0.1, 0.0)) + rng.normal(0, 0.04, 2)
    apart = np.array((rng.choice((-1, 1)) * rng.uniform(0.05, 0.12), rng.uniform(-0.1, 0.1)))  # where the veins rise
    for side in (-1, 1):  # superior, inferior
        first, swing = np.deg2rad(rng.normal(82, 10)), np.clip(arc / rng.normal(3.9, 0.35), 0, 1)
        late = np.clip((arc - 3.0) / 3, 0, 1) * np.deg2rad(rng.uniform(-10, 30))
        temporal = first * (1 - swing) - late + np.deg2rad(rng.normal(0, 25)) * np.exp(-arc / 0.3)
        nasal = np.deg2rad(rng.normal(122, 11)) + np.clip(arc / 2.5, 0, 1) * np.deg2rad(rng.uniform(-5, 35))
        fork = int(rng.integers(0, LAST_FORK + 1))
        forks = fork, int((fork + rng.integers(2, LAST_FORK)) % (LAST_FORK + 1))  # of the artery and of the vein
        way = rng.choice((-1, 1))
        for heading, trunk in ((temporal, True), (nasal, False)):
            angle = side * (heading + _wander(rng, len(arc), 0.17))
            steps = STEP * np.stack((np.cos(angle), np.sin(angle)), axis=1)
            begin = root if trunk else arteries[-1][forks[0]]
            line = begin + np.concatenate((np.zeros((1, 2)), np.cumsum(steps[1:], axis=0)))
            arteries.append(line)
            beside = way * np.tanh(2.5 * np.sin(2 * np.pi * arc / rng.uniform(4, 12) + rng.uniform(0.3, 2.3)))
            gap = (0.16 * np.clip(arc / 0.3, 0, 1) + 0.06 * np.clip(arc - 0.3, 0, 5)) * beside
            gap = gap + np.clip(arc / 3, 0, 1) * _wander(rng, len(arc), 0.06, 0.95)
            normal = np.stack((-np.sin(angle), np.cos(angle)), axis=1)
            aside = cv2.GaussianBlur(normal * gap[:, None], (1, 9), 1.6, borderType=cv2.BORDER_REPLICATE)
            vein = line + aside * np.clip(arc / 0.25, 0, 1)[:, None]
            rise = root + apart if trunk else veins[-1][forks[1]]
            veins.append(vein + (rise - vein[0]) * np.exp(-arc / 0.3)[:, None])
    return [arteries, veins]


class Growth:
    """Both trees while they grow: nodes, the tips that still move, and a grid of what each tree has taken."""

    def __init__(self, rng: np.random.Generator):
        self.rng, self.room = rng, ROOM * rng.uniform(0.7, 1.1)  # some eyes have more vessels
        self.avascular = rng.uniform(0.24, 0.38)  # DD round the fovea; capillaries beyond are none that a camera sees
        self.points: list[np.ndarray] = []
        self.parents: list[np.ndarray] = []
        self.trees: list[np.ndarray] = []
        self.count = 0
        self.taken = np.zeros((2, CELLS, CELLS), np.int32)  # 1 + the node that lies there, of each tree
        self.laid = np.zeros((2, CELLS // SENSE, CELLS // SENSE), np.float32)  # how much lies in a coarse cell
        self.crowd = self.laid

    def add(self, points: np.ndarray, before: np.ndarray, parents: np.ndarray, trees: np.ndarray) -> np.ndarray:
        """New nodes N×2 of these trees, reached from the places ``before``; their numbers."""
        numbers = np.arange(self.count, self.count + len(points))
        self.count += len(points)
        self.points.append(points)
        self.parents.append(parents)
        self.trees.append(trees)
        for place in ((points + before) / 2, points):
            row, column = _cells(place)
            self.taken[trees, row, column] = numbers + 1
        np.add.at(self.laid, (trees, row // SENSE, column // SENSE), 2.8)
        return numbers

    def spread(self) -> None:
        """Blur what lies in the cells to how crowded it is there; the other tree counts less."""
        own, other = (cv2.GaussianBlur(taken, (9, 9), 1.5) for taken in self.laid)
        self.crowd = np.stack((own + 0.8 * other, other + 0.8 * own))

    def feel(self, tips: "Tips", turn: np.ndarray, distance: float) -> np.ndarray:
        """How crowded it is at ``distance`` DD from each tip, ``turn`` radians off its heading; 1 on a lone vessel."""
        angle = tips.heading + turn
        row, column = _cells(tips.place + distance * np.stack((np.cos(angle), np.sin(angle)), axis=-1))
        return self.crowd[tips.tree, row // SENSE, column // SENSE]


def _cells(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of points ...×2 on the grid of what is taken."""
    cells = ((points - CENTRE) / CELL + CELLS / 2).astype(int).clip(0, CELLS - 1)
    return cells[..., 1], cells[..., 0]


def _aim(points: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Heading (radians) where a twig is drawn to: inside the arcades to the fovea, or to the raphe beside it; outside
    away from the posterior pole."""
    offset = points - FOVEA
    inwards = np.stack((np.where(offset[:, 0] > 0, 0.1, -0.7) * offset[:, 0], -offset[:, 1]), axis=1)
    outwards = points - (0.9, 0)
    goal = np.where(inner[:, None], inwards, outwards)
    return np.arctan2(goal[:, 1], goal[:, 0])


def _fork_angles(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how much the larger and the smaller branch turn off when the smaller takes ``share`` of the flow (radians):
    the angles of least work (Murray, J Gen Physiol 1926)."""
    big, small = (1 - share) ** (4 / 3), share ** (4 / 3)
    return (
        np.arccos(((1 + big - small) / (2 * np.sqrt(big))).clip(-1, 1)),
        np.arccos(((1 + small - big) / (2 * np.sqrt(small))).clip(-1, 1)),
    )


@dataclass
class Tips:
    """Growing ends: node, place, heading, curve (turn of the last step), flow meant for it, DD left to grow and to the
    next fork, side of the next branch, tree, whether it lies inside the arcades, steps to go until it is clear of its
    sister, and the place of the fork where they parted."""

    node: np.ndarray
    place: np.ndarray
    heading: np.ndarray
    curve: np.ndarray
    flow: np.ndarray
    left: np.ndarray
    fork: np.ndarray
    side: np.ndarray
    tree: np.ndarray
    inner: np.ndarray
    young: np.ndarray
    born: np.ndarray

    def take(self, which: np.ndarray) -> "Tips":
        """Those at these numbers, or where true."""
        return Tips(**{name: value[which] for name, value in vars(self).items()})

    def join(self, other: "Tips") -> "Tips":
        """These and the others."""
        return Tips(**{name: np.concatenate((value, getattr(other, name))) for name, value in vars(self).items()})


def _tips(rng, node, place, heading, flow, side, tree, inner) -> Tips:
    """New tips; those of more flow have further to grow."""
    count = len(node)
    left = (0.45 + 3.6 * np.sqrt(flow)) * rng.uniform(0.75, 1.3, count)
    fork = rng.uniform(0.25, 0.7, count)
    return Tips(node, place, heading, np.zeros(count), flow, left, fork, side, tree, inner, np.full(count, 4), place)


def _lay(growth: Growth, lines: list[np.ndarray], tree: int) -> list[np.ndarray]:
    """Nodes of the trunks, a temporal one and a nasal one that leaves it, twice; ``lines`` are cut at the edge."""
    numbers: list[np.ndarray] = []
    for index, line in enumerate(lines):
        outside = np.hypot(*(line - CENTRE).T) >= REACH
        lines[index] = line = line[: int(outside.argmax()) or len(line)]
        mother = -1
        if index % 2:
            mother = numbers[-1][int(np.hypot(*(lines[index - 1] - line[0]).T).argmin())]
            line, before = line[1:], line[:-1]
            lines[index] = line
        else:
            before = np.concatenate((line[:1], line[:-1]))
        parents = np.concatenate(([mother], growth.count + np.arange(len(line) - 1)))
        numbers.append(growth.add(line, before, parents, np.full(len(line), tree)))
    return numbers


def _spots(rng: np.random.Generator, length: float) -> list[tuple[float, float, int, bool]]:
    """Where along a trunk of ``length`` DD something leaves it: DD from its start, flow, side, whether it is a twig."""
    spots = [(rng.uniform(0.2, 2.4), rng.uniform(1, 2.5), int(rng.choice((-1, 1))), False)]  # it divides again
    for side in (-1, 1):
        spot = rng.uniform(0.3, 1.2)
        while spot < min(length - 0.4, 5):
            spots.append((spot, np.exp(rng.uniform(-1.5, 0.4)) * (1 - 0.1 * spot), side, False))
            spot += rng.uniform(0.8, 2.0)
    side, spot = int(rng.choice((-1, 1))), rng.uniform(0.5, 0.9)
    while spot < length - 0.4:
        spots.append((spot, np.exp(rng.uniform(-3.2, -1.2)) * (1 - 0.1 * spot), side, True))
        spot, side = spot + rng.uniform(0.8, 2.4), -side if rng.random() < 0.8 else side
    return spots


def _sow(growth: Growth, arcades: list[list[np.ndarray]]) -> tuple[Tips, Tips]:
    """Lay the trunks and set tips on them: branches on either side and round the disc, and twigs between them."""
    rng = growth.rng
    branches: list[tuple] = []  # node, its place, the trunk's heading, flow, side, tree, inside the arcades
    twigs: list[tuple] = []
    for tree, lines in enumerate(arcades):
        for index, nodes in enumerate(_lay(growth, lines, tree)):
            line, temporal, upwards = lines[index], index % 2 == 0, -1 if index < 2 else 1
            along = np.gradient(line, axis=0)
            for spot, flow, side, small in _spots(rng, len(line) * STEP):
                at = int(spot / STEP)
                heading = np.arctan2(along[at, 1], along[at, 0])
                seed = (nodes[at], *line[at], heading, flow, side, tree, temporal and side != upwards)
                (twigs if small else branches).append(seed)
            for low, high, most in DISC_TWIGS[temporal]:
                for angle in rng.uniform(low, high, int(rng.integers(0, most + 1))):
                    at, flow = int(rng.integers(1, 6)), np.exp(rng.uniform(-2.5, -0.1))
                    heading = upwards * np.deg2rad(angle)
                    branches.append((nodes[at], *line[at], heading, flow, 0, tree, angle < 60))
    return _seedlings(rng, branches), _seedlings(rng, twigs)


def _seedlings(rng: np.random.Generator, seeds: list[tuple]) -> Tips:
    """Tips at these seeds, turned off their trunks by the angle of their flow."""
    node, x, y, trunk, shares, sides, trees, within = (np.array(column) for column in zip(*seeds, strict=True))
    turn = sides * _fork_angles(shares.clip(0.05, 0.5))[1] * rng.uniform(0.4, 0.95, len(node))
    sides = np.where(sides == 0, rng.choice((-1, 1), len(node)), sides)
    return _tips(rng, node, np.stack((x, y), axis=1), trunk + turn, shares, sides, trees, within)


def _steer(growth: Growth, tips: Tips) -> np.ndarray:
    """Turn every tip: to where it is drawn, away from where it is crowded, and a little at random, fine twigs most; how
    crowded it is on its freer side."""
    sides = np.array((-1, 1))[:, None]
    left, right = growth.feel(tips, 0.7 * sides, 0.45) + growth.feel(tips, 1.5 * sides, 0.28)
    off = (_aim(tips.place, tips.inner) - tips.heading + np.pi) % (2 * np.pi) - np.pi
    noise = growth.rng.normal(0, 0.1, len(off)) * (0.5 + 0.7 / (1 + 12 * tips.flow))
    curve = 0.55 * tips.curve + (0.03 + 0.05 * tips.flow) * off + 0.14 * np.tanh(left - right) + noise
    tips.curve = np.clip(curve, -0.33, 0.33)
    tips.heading = tips.heading + tips.curve
    return np.minimum(left, right)


def _blocked(growth: Growth, tips: Tips, place: np.ndarray) -> np.ndarray:
    """Which tips would meet their own tree with the step to ``place``, their sister after a fork excepted."""
    angle = tips.heading + np.array((0, -1, 1))[:, None]
    feelers = np.concatenate((place[None], place + 0.05 * np.stack((np.cos(angle), np.sin(angle)), axis=2)))
    row, column = _cells(feelers)
    hit = growth.taken[tips.tree, row, column]
    sister = (tips.young > 0) & (np.hypot(*np.moveaxis(feelers - tips.born, 2, 0)) < 0.25)
    taken = ((hit > 0) & (hit != tips.node + 1) & ~sister).any(axis=0)
    apart = np.column_stack((place, 100 * tips.tree))
    later = cKDTree(apart).query_pairs(STEP, output_type="ndarray").max(axis=1, initial=0)
    taken[later[tips.young[later] < 2]] = True  # of two that meet in one step the first goes on
    return taken


def _advance(growth: Growth, tips: Tips) -> Tips:
    """One step of every tip; those that are blocked, too crowded, at the avascular zone or the edge stay behind."""
    growth.spread()
    crowd = _steer(growth, tips)
    before, place = tips.place, tips.place + STEP * np.stack((np.cos(tips.heading), np.sin(tips.heading)), axis=1)
    goes = (np.hypot(*(place - FOVEA).T) > growth.avascular) & (np.hypot(*(place - CENTRE).T) < REACH)
    goes &= (tips.left > 0) & ~_blocked(growth, tips, place)
    near = np.hypot(*place.T) < 0.75  # all lie close together at the disc
    goes &= (crowd < growth.room[tips.inner.astype(int), 1]) | (growth.rng.random(len(goes)) > 0.3) | near
    tips.place = place
    tips = tips.take(goes)
    tips.node = growth.add(tips.place, before[goes], tips.node, tips.tree)
    tips.left, tips.fork, tips.young = tips.left - STEP, tips.fork - STEP, tips.young - 1
    return tips


def _branch(growth: Growth, tips: Tips) -> Tips:
    """Where a tip has come to its next fork, a smaller branch leaves and it turns off to the other side."""
    rng = growth.rng
    room = growth.feel(tips, 0.9 * tips.side, 0.45) < growth.room[tips.inner.astype(int), 0]
    forks = np.nonzero((tips.fork <= 0) & (tips.flow > 0.012) & room)[0]
    count = len(forks)
    share = rng.uniform(0.12, 0.5, count)
    little, much = _fork_angles(share)
    mother = tips.take(forks)
    heading = mother.heading + mother.side * much * rng.uniform(0.8, 1.1, count)
    flow = mother.flow * share
    child = _tips(rng, mother.node, mother.place, heading, flow, mother.side, mother.tree, mother.inner)
    tips.heading[forks] -= mother.side * little * 0.8
    tips.flow[forks] *= 1 - share
    tips.young[forks], tips.born[forks] = 4, mother.place
    tips.side[forks] *= np.where(rng.random(count) < 0.8, -1, 1)
    tips.fork[forks] = rng.uniform(0.28, 0.9, count) * np.where(mother.inner, 0.8, 1.1)
    return tips.join(child)


def _flow(points: np.ndarray, parents: list[int]) -> np.ndarray:
    """Length of vessel behind every node, DD; what leaves the circle goes on to the periphery."""
    flow = np.where(np.hypot(*(points - CENTRE).T) > REACH - STEP, BEYOND, STEP).tolist()
    for node in range(len(parents) - 1, 0, -1):
        if parents[node] >= 0:
            flow[parents[node]] += flow[node]
    return np.array(flow)


def _chains(parents: list[int], flow: list[float]) -> list[np.ndarray]:
    """Vessels from fork to end: at each fork the larger branch goes on, the smaller one begins a vessel."""
    heir = [-1] * len(parents)
    for node, parent in enumerate(parents):
        if parent >= 0 and (heir[parent] < 0 or flow[node] > flow[heir[parent]]):
            heir[parent] = node
    chains = []
    for node, parent in enumerate(parents):
        if parent < 0 or heir[parent] != node:
            chain = [parent, node] if parent >= 0 else [node]
            while heir[chain[-1]] >= 0:
                chain.append(heir[chain[-1]])
            chains.append(np.array(chain))
    return chains


def _crossings(points: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Pairs of nodes M×2 whose ways from their mothers cross."""
    nodes = np.nonzero(parents >= 0)[0]
    begin, way = points[parents[nodes]], points[nodes] - points[parents[nodes]]
    one, two = cKDTree(begin + way / 2).query_pairs(STEP, output_type="ndarray").T
    between = begin[two] - begin[one]
    turn = way[one, 0] * way[two, 1] - way[one, 1] * way[two, 0] + 1e-12
    first = (between[:, 0] * way[two, 1] - between[:, 1] * way[two, 0]) / turn
    second = (between[:, 0] * way[one, 1] - between[:, 1] * way[one, 0]) / turn
    cross = (np.minimum(first, second) > 1e-6) & (np.maximum(first, second) < 1 - 1e-6)
    return nodes[np.stack((one[cross], two[cross]), axis=1)]


def _finish(points: np.ndarray, parents: np.ndarray) -> Tree:
    """Cut what crosses its own tree, and stubs; number the nodes that are left anew and sum their flow."""
    flow = _flow(points, parents.tolist())
    crossing = _crossings(points, parents)
    keep = [True] * len(points)
    for node in crossing[np.arange(len(crossing)), flow[crossing].argmin(axis=1)].tolist():
        keep[node] = False
    for chain in _chains(parents.tolist(), flow.tolist()):
        if len(chain) < SHORTEST:
            keep[chain[1]] = False
    for node, parent in enumerate(parents.tolist()):
        keep[node] = keep[node] and (parent < 0 or keep[parent])
    kept = np.array(keep)
    points, parents = points[kept], np.where(parents < 0, -1, (np.cumsum(kept) - 1)[parents])[kept]
    flow = _flow(points, parents.tolist())
    chains = _chains(parents.tolist(), flow.tolist())
    starts = np.cumsum([0, *map(len, chains)])[:-1]
    calibres = np.cbrt(flow / flow[np.hypot(*points.T) > 0.75].max()).clip(0, 1.1)
    return Tree(points.astype(np.float32), parents, flow, calibres, np.concatenate(chains), starts)


@cache
def grow(index: int) -> tuple[Tree, Tree]:
    """The pair of trees number ``index``, artery and vein, in the frame of the standard eye."""
    rng = streams.rng(0, "vessels", index)
    growth = Growth(rng)
    tips, twigs = _sow(growth, _arcades(rng))
    for _ in range(AHEAD):
        tips = _branch(growth, _advance(growth, tips))
    tips = tips.join(twigs)
    while len(tips.node):
        tips = _branch(growth, _advance(growth, tips))
    points, parents, trees = (np.concatenate(part) for part in (growth.points, growth.parents, growth.trees))
    grown = []
    for tree in (0, 1):
        own = trees == tree
        number = np.cumsum(own) - 1
        grown.append(_finish(points[own], np.where(parents < 0, -1, number[parents])[own]))
    return grown[0], grown[1]


# On the eye -------------------------------------------------------------------------------------------------------


@cache
def _free(cells: int) -> np.ndarray:
    """How far each cell of the square may move: 0 at disc and fovea to 1; cells×cells×1."""
    axis = (np.arange(cells) + 0.5) * 2 * FRAME / cells - FRAME
    x, y = np.meshgrid(axis + CENTRE[0], axis + CENTRE[1])
    held = np.exp(-(np.hypot(x, y) ** 2)) + np.exp(-(np.hypot(x - FOVEA[0], y - FOVEA[1]) ** 2))
    return np.clip(1 - held, 0, 1)[..., None].astype(np.float32)


def _bend(rng: np.random.Generator, cells: int = 64) -> np.ndarray:
    """How an eye differs from the standard one, apart from its fovea's place: displacements cells×cells×2 in DD."""
    slow = 0.11 * rng.standard_normal((6, 6, 2), np.float32)
    return cv2.resize(slow, (cells, cells), interpolation=cv2.INTER_CUBIC) * _free(cells)


def _place(eye: Eye, points: np.ndarray, bend: np.ndarray, mirrored: bool) -> np.ndarray:
    """Points N×2 of the standard eye → of this one, DD: bent, turned to its fovea; a large cup pushes the origin of the
    vessels to the nasal side (EGS guidelines)."""
    cells = ((points - CENTRE) + FRAME) * (len(bend) / (2 * FRAME)) - 0.5
    columns, rows = np.ascontiguousarray(cells.T.astype(np.float32))[:, None]
    moved = points + cv2.remap(bend, columns, rows, cv2.INTER_CUBIC, None, cv2.BORDER_REPLICATE)[0]
    if mirrored:
        moved = moved * (1, -1)
    along = eye.fovea / FOVEA[0]
    moved = moved @ np.array((along, (-along[1], along[0])))
    near = np.exp(-((np.hypot(*moved.T) / 0.5) ** 2))
    return moved - np.stack((0.3 * max(eye.factors["cup_to_disc"] - 0.5, 0) * near, 0 * near), axis=1)


def _pieces(tree: Tree, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``walk`` and ``starts`` of a tree, the nodes that are not ``wanted`` (N) left out, and those left alone."""
    keep, first = wanted[tree.walk], np.zeros(len(tree.walk) + 1, bool)
    first[tree.starts] = first[-1] = True
    first[1:] |= ~keep
    keep &= ~first[:-1] | (~first[1:] & np.append(keep[1:], False))
    return tree.walk[keep], np.nonzero(first[:-1][keep])[0]


def _draw(eye: Eye, line: np.ndarray, starts: np.ndarray, wide: np.ndarray, opaque: float) -> np.ndarray:
    """Coverage of vessels through the nodes ``line`` K×2, one after the other from ``starts``, ``wide`` K, all in DD.

    Thinner ones take less light: two thirds of all at a width of ``opaque``. Wide vessels are ribbons; those under two
    pixels of the canvas are lines, and under one fainter.
    """
    canvas, pixel = eye.canvas(), 1 / (eye.scale * eye.fine)
    along, last = np.empty_like(line), np.append(starts, len(line))[1:] - 1
    along[1:-1] = line[2:] - line[:-2]
    along[starts], along[last] = line[starts + 1] - line[starts], line[last] - line[last - 1]
    across = np.stack((-along[:, 1], along[:, 0]), axis=1)
    across *= ((wide - 0.6 * pixel) / 2 / (np.hypot(*along.T) + 1e-6))[:, None]
    middle, left, right = eye.fixed_point(np.stack((line, line + across, line - across)))

    grade = np.round(np.log(wide.clip(FINEST) / FINEST) / GRADE).astype(int)
    widths = FINEST * np.exp(GRADE * np.arange(grade.max(initial=0) + 1))
    levels = 255 * (1 - np.exp(-widths / opaque)) * np.minimum(1, widths / pixel / 1.2)
    grade[starts] = -1
    breaks = np.nonzero(np.diff(grade, prepend=-2))[0]
    runs: list[list[tuple[int, int]]] = [[] for _ in widths]
    ends = np.append(breaks, len(grade))[1:]
    for key, begin, end in zip(grade[breaks].tolist(), breaks.tolist(), ends.tolist(), strict=True):
        if key >= 0:
            runs[key].append((begin - 1, end))
    # Finest first: where they join, the larger vessel is seen.
    for parts, width, level in zip(runs, widths, levels.round().tolist(), strict=True):
        if width < 2 * pixel:
            cv2.polylines(canvas, [middle[begin:end] for begin, end in parts], False, level, 1, cv2.LINE_AA, SHIFT)
        else:
            for begin, end in parts:
                ribbon = np.concatenate((left[begin:end], right[begin:end][::-1]))
                cv2.fillPoly(canvas, [ribbon], level, cv2.LINE_AA, SHIFT)
    return eye.coverage(canvas)


def _beads(tree: Tree, rng: np.random.Generator) -> np.ndarray:
    """-1 to 1 along the vessels, N: how far each node of a beaded vein is from its mean width."""
    arc = np.zeros(len(tree.points))
    along = np.arange(len(tree.walk)) - np.repeat(tree.starts, np.diff(np.append(tree.starts, len(tree.walk))))
    arc[tree.walk[along > 0]] = STEP * along[along > 0]
    return np.sin(14 * arc + rng.uniform(0, 6)) * (np.hypot(*tree.points.T) > 1)


def _uneven(tree: Tree, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit variance along the vessels, N: no calibre is quite even."""
    noise = np.zeros((len(tree.points), 1), np.float32)
    noise[tree.walk] = 2.1 * cv2.GaussianBlur(rng.standard_normal((len(tree.walk), 1), np.float32), (1, 9), 1.25)
    return noise[:, 0]


def _tree(
    eye: Eye, name: str, tree: Tree, points: np.ndarray, calibre: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of one tree whose nodes lie at ``points``, and of its light reflex; ``calibre`` is the width of its
    largest vessel at the disc, DD."""
    factors = eye.factors
    widths = calibre * tree.calibres
    large = widths > 0.4 * calibre
    if name == "vein" and factors["beading"]:
        widths = widths * (1 + 0.55 * factors["beading"] * _beads(tree, rng) * large)
    widths = widths * (1 + UNEVEN * _uneven(tree, rng))
    eye.parameters[f"{name}_calibre"] = round(float(calibre), 4)
    seen = np.hypot(*(points - eye.gaze).T) < factors["field_radius"] + 0.3
    walk, starts = _pieces(tree, seen)
    vessel = _draw(eye, points[walk], starts, widths[walk], OPAQUE)
    if factors["light_reflex"] and 0.3 * calibre * eye.scale > 0.5:  # under half a pixel there is none to see
        walk, starts = _pieces(tree, seen & large)
        return vessel, _draw(eye, points[walk], starts, 0.3 * widths[walk], 0.1 * OPAQUE)
    return vessel, np.zeros_like(vessel)


def _mark(eye: Eye, name: str, seen: np.ndarray) -> None:
    """Into the mask goes what a person would mark: visible (``seen``: coverage by contrast), less the soft edges."""
    around = cv2.GaussianBlur(seen, (3, 3), 0)  # half of a line one pixel wide, wherever it lies between the pixels
    core = seen > 0.4 * cv2.dilate(seen, np.ones((3, 3), np.uint8))
    eye.mark(name, around * core, MARKED / 2)


def _bayonet(eye: Eye, planes: tuple[np.ndarray, ...]) -> np.ndarray:
    """Bend what the planes S×S show at the edge of the cup: what lies in it moves to the nasal side, by up to 0.1 DD in
    the deepest cup. Gives how far inside the cup each pixel is, 0 to 1."""
    inside = eye.masks["cup"].astype(np.float32)
    shift = 0.2 * eye.factors["cup_depth"] * max(eye.factors["cup_to_disc"] - 0.5, 0) * eye.scale
    x, y, wide, tall = cv2.boundingRect(eye.masks["cup"].view(np.uint8))
    pad = round(0.2 * eye.scale)
    place = slice(max(y - pad, 0), y + tall + pad), slice(max(x - pad, 0), x + wide + pad)
    if not wide or shift < 0.2:
        return inside
    near = cv2.GaussianBlur(inside[place], (0, 0), max(0.025 * eye.scale, 0.3))
    inside[place] = near
    rows, columns = np.indices(near.shape, np.float32)
    across, down = eye.turn[0, 0] * eye.mirror, eye.turn[1, 0] * eye.mirror
    for plane in planes:
        plane[place] = cv2.remap(
            plane[place].copy(), columns + across * shift * near, rows + down * shift * near, cv2.INTER_LINEAR
        )
    return inside


def vessels(eye: Eye) -> None:
    """Retinal arteries and veins, artery to vein 2:3, from the disc along the arcades; never into the fovea.

    Where a vein is nicked it vanishes beside the artery that crosses it; in a large deep cup vessels dive out of sight
    under its edge and reappear on its floor, farther to the nasal side (bayoneting).
    """
    factors, rng = eye.factors, eye.dice("vessels")
    trees = dict(zip(("artery", "vein"), grow(int(rng.integers(POOL))), strict=True))
    mirrored, bend = bool(rng.random() < 0.5), _bend(rng)
    calibres = {"artery": ARTERY_CALIBRE * (1 - 0.5 * factors["narrowing"]), "vein": VEIN_CALIBRE}
    calibres["vein"] *= factors["vein_dilation"]
    reflex = np.zeros((eye.size, eye.size), np.float32)
    for name, bends, shine in (("vein", 0.02, 0.4), ("artery", 0.016, 1.0)):
        own = eye.dice(name)
        calibre = calibres[name] * own.uniform(0.85, 1.15)
        curls = cv2.GaussianBlur(own.standard_normal(bend.shape, np.float32), (0, 0), 1.0)
        curls *= 3.5 * bends * factors["tortuosity"]  # 3.5 undoes what the blur takes
        points = _place(eye, trees[name].points, bend + curls, mirrored)
        eye.vessels[name], bright = _tree(eye, name, trees[name], points, calibre, own)
        reflex += shine * factors["light_reflex"] * bright
    if factors["nicking"]:
        beside = cv2.GaussianBlur(np.minimum(*eye.vessels.values()), (0, 0), 0.09 * eye.scale)
        beside = beside * np.clip(eye.distance((0, 0)) / 0.4 - 1.2, 0, 1)  # near the disc all lie side by side
        eye.vessels["vein"] *= np.clip(1 - 6 * factors["nicking"] * beside, 0, 1)
    depth = eye.dice("vessel depth").uniform(0.5, 1.05)
    under = _bayonet(eye, (*eye.vessels.values(), reflex))
    dive = 1 - (0.4 + 1.2 * factors["cup_depth"]) * max(factors["cup_to_disc"] - 0.5, 0) * under
    for name, colour in (("vein", VEIN), ("artery", ARTERY)):
        seen = eye.vessels[name] * (depth * dive)
        eye.absorb(None, seen, colour)
        _mark(eye, name, seen)
    eye.absorb(None, reflex * (depth * dive), (-0.12, -0.4, -0.3))
