"""Which frames stand for what a distilled run does better: the five samples of CRKD's Figure 2, chosen by a rule.

The caption names an object that the student misses and the distilled run finds with the teacher's guidance (1), false
detections of the student that it rejects (2), the same of the teacher, twice (3, 4), and both, with objects that the
student misses (5). Of each kind the frame is shown that has most events of it, less those of the opposite kind; then
that with most events, then with the most confident one, then the first. Samples are of different scenes as long as
there are others, and never of one frame. The best frames of a kind prove nothing: a table counts all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bevkd.eval.centres import pair_nearest
from bevkd.eval.nuscenes.boxes import Floats, Ints
from bevkd.report.events import Events, Matches, compare

STUDENT, TEACHER = "student", "teacher"


@dataclass(frozen=True)
class Happened:
    """N events of a kind.

    Attributes:
        frame: (N,) in which frame.
        xy: (N, 2) where, in its ego frame (m).
        score: (N,) of the detection that makes it one.
    """

    frame: Ints
    xy: Floats
    score: Floats

    def count(self, frames: int) -> Ints:
        """How many there are in each frame."""
        return np.bincount(self.frame, minlength=frames)

    def best(self, frames: int) -> Floats:
        """The highest score in each frame; minus infinity where there is none."""
        out = np.full(frames, -np.inf)
        np.maximum.at(out, self.frame, self.score)
        return out

    def places(self, frame: int) -> list[tuple[float, float]]:
        """Where they are in a frame, by falling score."""
        at = np.flatnonzero(self.frame == frame)
        at = at[np.argsort(-self.score[at], kind="stable")]
        return [(float(x), float(y)) for x, y in self.xy[at]]


@dataclass(frozen=True)
class Sample:
    """A frame to show.

    Attributes:
        number: 1 to 5, as in the paper.
        said: what it shows.
        beside: who is drawn beside the distilled run.
        frame: index; None: there is no such frame.
        zooms: centres (m) of the regions to look at closely, at most as many as `panels`.
        panels: regions that the paper shows.
        events: events of the kind in the frame, and of the opposite kind.
    """

    number: int
    said: str
    beside: tuple[str, ...]
    panels: int
    frame: int | None = None
    zooms: tuple[tuple[float, float], ...] = ()
    events: tuple[int, int] = (0, 0)


def choose(teacher: Matches, student: Matches, distilled: Matches, scenes: Sequence[str], apart: float) -> list[Sample]:
    """The five samples.

    Args:
        teacher, student, distilled: what the three find in the same frames.
        scenes: of each frame.
        apart: the regions of a frame are at least so far from each other (m).

    Raises:
        DataError: they are of other frames or annotations.
    """
    over_student, over_teacher = compare(distilled, student), compare(distilled, teacher)
    gained = _objects(distilled, over_student.gained)
    guided = _objects(distilled, over_student.gained[teacher.finder[over_student.gained] >= 0])
    lost = _objects(student, over_student.lost)
    rejected, added = _both(student, distilled, over_student)
    teachers, added_to_teacher = _both(teacher, distilled, over_teacher)
    shared = pair_nearest(
        teacher.detections.take(over_teacher.rejected), student.detections.take(over_student.rejected)
    )
    common = _false(teacher, over_teacher.rejected[shared >= 0])

    frames = len(scenes)
    taken: list[int] = []

    def frame_of(wanted: Sequence[Happened], against: Sequence[Happened]) -> tuple[int | None, tuple[int, int]]:
        """The frame with most of what is wanted, where each kind of it is, and how many events it has."""
        counts = [kind.count(frames) for kind in wanted]
        total = np.sum(counts, axis=0)
        opposite = np.sum([kind.count(frames) for kind in against], axis=0)
        has = np.logical_and.reduce([count > 0 for count in counts])
        best = np.max([kind.best(frames) for kind in wanted], axis=0)
        order = np.lexsort((np.arange(frames), -best, -total, opposite - total))
        left = [int(i) for i in order if has[i] and int(i) not in taken]
        seen = {scenes[i] for i in taken}
        chosen = next((i for i in left if scenes[i] not in seen), left[0] if left else None)
        if chosen is None:
            return None, (0, 0)
        taken.append(chosen)
        return chosen, (int(total[chosen]), int(opposite[chosen]))

    def sample(
        number: int,
        said: str,
        beside: tuple[str, ...],
        panels: int,
        wanted: Sequence[Happened],
        against: Sequence[Happened],
        looks: Sequence[Sequence[Happened]],
    ) -> Sample:
        """With a region for each list of `looks`: the first event of its first kind that is there."""
        frame, events = frame_of(wanted, against)
        if frame is None:
            return Sample(number, said, beside, panels)
        zooms: list[tuple[float, float]] = []
        for kinds in looks:
            zooms += _first_apart((place for kind in kinds for place in kind.places(frame)), zooms, apart)
        return Sample(number, said, beside, panels, frame, tuple(zooms), events)

    us, all_three = (STUDENT,), (TEACHER, STUDENT)
    guided_said = "objects that the student misses, found with the teacher's guidance"
    return [
        sample(1, guided_said, us, 2, [guided], [lost], [[guided], [guided, rejected, lost, added]]),
        sample(2, "false detections of the student, rejected", us, 2, [rejected], [added],
               [[rejected], [rejected, gained, added, lost]]),
        *(sample(number, "false detections of the teacher, rejected", (TEACHER,), 1, [teachers], [added_to_teacher],
                 [[teachers]]) for number in (3, 4)),
        sample(5, "objects that the student misses, found, and false detections of both, rejected", all_three, 2,
               [gained, rejected, teachers], [lost, added, added_to_teacher], [[gained], [common, teachers, rejected]]),
    ]  # fmt: skip


def _first_apart(
    places: Iterable[tuple[float, float]], zooms: Sequence[tuple[float, float]], apart: float
) -> list[tuple[float, float]]:
    """The first place that no region holds yet, if there is one."""
    for place in places:
        if all(np.hypot(place[0] - x, place[1] - y) >= apart for x, y in zooms):
            return [place]
    return []


def _objects(finder: Matches, which: Ints) -> Happened:
    """Annotations, with the score of what has found them."""
    at = finder.annotations.take(which)
    return Happened(at.frame, at.box[:, :2], finder.detections.score[finder.finder[which]])


def _false(of: Matches, which: Ints) -> Happened:
    at = of.detections.take(which)
    return Happened(at.frame, at.box[:, :2], at.score)


def _both(other: Matches, mine: Matches, events: Events) -> tuple[Happened, Happened]:
    """False detections of another run that are rejected, and those that are added."""
    return _false(other, events.rejected), _false(mine, events.added)
