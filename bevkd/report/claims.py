"""The claims ledger: every claim is tested by paired repetitions, against its baseline and against its controls.

Verdicts for `greater`, from the 95 % paired t interval of the improvement:

- *reproduced*: the interval over the baseline lies above 0 and, where a control is due, so does the interval over the
  strongest one (the one that leaves the smallest mean improvement), and all of them have been run;
- *contradicted*: the interval over the baseline lies below 0;
- *inconclusive*: everything else, also a gain that a control explains, or may explain. The note says which.

Verdicts for `no_difference` read the interval as an equivalence test: *reproduced* when it lies within the margin,
*contradicted* when it does not and excludes 0, *inconclusive* otherwise. Failing to find a difference is no proof.

Of `at_most` and `at_least`, the effect is how far the metric of `better` stays below or above the margin; it is
*reproduced* where its interval lies above 0, *contradicted* where it lies below.

With `over: seeds`, intervals cover student seeds, and the seeds of their teachers where these have several; labelled
frames and report frames are one fixed draw. `covers` says what those of a claim do, `note` the split if it is not the
reported one.
With `over: subsets`, they cover the labelled subsets, each with its own teacher and the mean over its seeds. With
`over: repeats`, they cover repeats of a benchmark on one machine, paired by their order.

`verdict` has no correction for the number of claims. `verdict_holm` has: it is the same verdict where Holm's adjusted p
is below 0.05, and *inconclusive* where not; see `bevkd.report.significance` for what is tested and which claims count.
Declared nulls and bounds are no members of that family and keep their verdicts. `Finding.counted` is the verdict that
page, figure and metrics show and count: the corrected one.

`smallest_effect` is the smallest effect whose interval would have excluded 0 at the spread that was observed: half the
width of the interval over the baseline. `target_half_width` is what it should be: a third of the published relative
gain, of our baseline's mean. An error of 1 or more scores nothing (the devkit clips it): where both sides have one,
nothing has been learnt that could be compared, and the claim is *inconclusive*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bevkd.config import RowConfig
from bevkd.errors import DataError
from bevkd.report import significance
from bevkd.report.fill import Found, pooled, pooled_pairs, published_gain, relative_gain
from bevkd.report.metrics import metric
from bevkd.report.runs import Runs
from bevkd.report.spec import ClaimConfig, Pool, pool
from bevkd.report.stats import Interval, t_interval

BOUNDS = {"at_most": -1.0, "at_least": 1.0}  # kinds of claims -> sign of what goes beyond the margin
VERDICTS = REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"


@dataclass(frozen=True)
class Finding:
    """One line of the ledger; positive effects point the way the claim does, in printed units (percent, x100).

    The last seven are empty in ledgers of before.
    """

    paper: str
    claim: str
    statement: str
    metric: str
    effect: float
    ci_low: float
    ci_high: float
    n: int
    control_effect: float
    verdict: str
    control_run: str
    control_ci_low: float
    control_ci_high: float
    paper_effect: float
    kind: str
    margin: float
    better: str
    than: str
    over: str
    note: str
    protocol: str = ""
    covers: str = ""
    smallest_effect: float = math.nan
    target_half_width: float = math.nan
    p_value: float = math.nan
    p_holm: float = math.nan
    verdict_holm: str = ""

    @property
    def counted(self) -> str:
        """The verdict that counts wherever findings are shown: after the correction.

        A ledger of before has no correction, so that a gain in it cannot count as one.
        """
        return self.verdict_holm or (INCONCLUSIVE if self.kind == "greater" else self.verdict)

    @property
    def correction(self) -> str:
        """What is said behind `counted` where `verdict` is another: `after Holm's correction (p 0.030 before)`."""
        if self.counted == self.verdict:
            return ""
        if not self.verdict_holm:
            return "until corrected (ledger of before)"
        return f"after Holm's correction (p {significance.text(self.p_value)} before)"


def judge(
    claim: ClaimConfig, effect: Interval, control: Interval | None, control_run: str = "", not_run: str = ""
) -> tuple[str, str]:
    """Verdict and note from the intervals over the baseline and over the control that is hardest to beat.

    `not_run` names a control that has not been run.
    """
    if effect.n < 2:
        return INCONCLUSIVE, "one pair only: no interval"
    if claim.kind == "no_difference":
        assert claim.margin is not None  # checked when the claim is parsed
        if -claim.margin < effect.low and effect.high < claim.margin:
            return REPRODUCED, f"interval within ±{claim.margin:g}"
        if effect.low > 0 or effect.high < 0:
            return CONTRADICTED, "interval excludes 0 and is not within the margin"
        return INCONCLUSIVE, f"interval neither within ±{claim.margin:g} nor clear of 0"
    if claim.kind in BOUNDS:
        return _kept(effect, claim)
    if effect.high < 0:
        return CONTRADICTED, "interval lies below 0"
    if effect.low <= 0:
        return INCONCLUSIVE, "interval includes 0"
    if not_run:
        return INCONCLUSIVE, f"gain over the baseline, but control {not_run} has not been run"
    if control is None and claim.control == "due":
        return INCONCLUSIVE, "gain over the baseline, but no control declared"
    if control is None:
        return REPRODUCED, "interval lies above 0; no control declared"
    if control.n < 2:
        return INCONCLUSIVE, f"gain over the baseline, but only one pair with control {control_run}"
    if control.low > 0:
        return REPRODUCED, f"also above the strongest control, {control_run}"
    return INCONCLUSIVE, f"gain over the baseline, but not shown over control {control_run}"


def _kept(effect: Interval, claim: ClaimConfig) -> tuple[str, str]:
    """Verdict and note of a bound."""
    if effect.low <= 0 <= effect.high:
        return INCONCLUSIVE, f"interval includes {claim.margin:g}"
    above = (effect.low > 0) == (claim.kind == "at_least")
    note = f"interval lies {'above' if above else 'below'} {claim.margin:g}"
    return REPRODUCED if effect.low > 0 else CONTRADICTED, note


def _numbers(claim: ClaimConfig, runs: Runs, which: Pool) -> Found:
    """The metric of a side of a claim; how alike two runs are is said of each side and the same runs of `like`."""
    if claim.like is None:
        return pooled(runs, which, claim.split, [claim.metric])
    return pooled_pairs(runs, which, claim.like, claim.split, [claim.metric], claim.better)


def improvement(claim: ClaimConfig, runs: Runs, rival: Pool) -> Interval:
    """Paired improvement of `claim.better` over another pool, positive when `better` is better; over a bound where the
    claim is of one.

    Raises:
        DataError: metrics are missing, or the two share no seed.
    """
    sign = 1.0 if metric(claim.metric).higher_is_better else -1.0
    if claim.kind in BOUNDS:
        assert claim.margin is not None  # checked when the claim is parsed
        mine, side = _numbers(claim, runs, claim.better), BOUNDS[claim.kind]
        return t_interval([side * (values[claim.metric] - claim.margin) for values in mine.values()])
    if metric(claim.metric).pairs == "difference":  # it is one already
        found = pooled_pairs(runs, claim.better, rival, claim.split, [claim.metric])
        return t_interval([sign * values[claim.metric] for values in found.values()])
    mine, theirs = (_numbers(claim, runs, which) for which in (claim.better, rival))
    pairs = {key: sign * (mine[key][claim.metric] - theirs[key][claim.metric]) for key in mine if key in theirs}
    if not pairs:
        raise DataError(f"claim {claim.id!r}: {claim.better!r} and {rival!r} share no seed")
    if claim.over != "subsets":
        return t_interval(list(pairs.values()))
    subset_of = [runs.row(run).labelled_subset for run in pool(claim.better)]
    groups: dict[int, list[float]] = {}
    for (position, _), value in pairs.items():
        groups.setdefault(subset_of[position], []).append(value)
    return t_interval([sum(values) / len(values) for values in groups.values()])


def _reach(gain: Interval) -> float:
    """Lower end of an interval; a single pair has none and shows nothing."""
    return -math.inf if math.isnan(gain.low) else gain.low


def _named(runs: Pool) -> str:
    """A pool in a few words."""
    first, *others = pool(runs) or ("",)
    return f"{first} and {len(others)} more runs" if others else first


def answer(claim: ClaimConfig, runs: Runs) -> Finding:
    """Answer one claim. A control that has not been run (of a later tier, say) leaves it open.

    Raises:
        ConfigError: a run is unknown.
        DataError: a run that is no control is missing, or any is unusable; the message names run and file.
    """
    claim.needs(runs.rows)
    effect = improvement(claim, runs, claim.than)
    control, control_run, not_run = None, "", ""
    tested: list[Interval] = []
    for rival in claim.controls:
        try:
            gain = improvement(claim, runs, rival)
        except DataError as error:
            if error.file is None or Path(error.file).exists():  # it is there, but unusable
                raise
            not_run = not_run or _named(rival)
            continue
        tested.append(gain)
        # Every control has to be beaten: the one whose interval reaches lowest decides, whatever its mean.
        if control is None or _reach(gain) < _reach(control):
            control, control_run = gain, " ".join(pool(rival))
    verdict, note = judge(claim, effect, control, _named(tuple(control_run.split())), not_run)
    # A difference of two runs has no level: it is always learnt, and no share of a baseline. A bound has no baseline.
    level = metric(claim.metric).pairs != "difference" and claim.kind not in BOUNDS
    means = [_mean(runs, which, claim) if level else math.nan for which in (claim.better, claim.than)]
    learnt = any(map(metric(claim.metric).is_learnt, means))
    if not learnt:
        verdict, note = INCONCLUSIVE, f"not learnt ({_not_learnt(claim.metric, means)})"
    paper_effect, share = published_gain(claim)[0], abs(relative_gain(claim))
    target = share * means[1] / 3 if share else math.nan
    half = (effect.high - effect.low) / 2
    if half > target:
        shown = metric(claim.metric).shown
        note += (
            f"; could have seen {shown.text(half)} {shown.unit} at the least, a third of the published relative gain is"
            f" {shown.text(target)}"
        )
    if claim.split != "report":
        note += f"; on the {claim.split} split"
    p_value, lacks_control = math.nan, claim.control == "due" and not claim.controls
    if learnt and claim.kind == "no_difference":
        assert claim.margin is not None
        p_value = significance.of_equivalence(effect, claim.margin)
    elif claim.kind in BOUNDS:
        p_value = significance.two_sided(effect)
    elif learnt and (effect.mean < 0 or not (not_run or lacks_control)):
        p_value = significance.of_gain(effect, tested)
    return Finding(
        paper=claim.paper,
        claim=claim.id,
        statement=claim.statement,
        metric=claim.metric,
        effect=effect.mean,
        ci_low=effect.low,
        ci_high=effect.high,
        n=effect.n,
        control_effect=math.nan if control is None else control.mean,
        verdict=verdict,
        control_run=control_run,
        control_ci_low=math.nan if control is None else control.low,
        control_ci_high=math.nan if control is None else control.high,
        paper_effect=paper_effect,
        kind=claim.kind,
        margin=math.nan if claim.margin is None else claim.margin,
        better=" ".join(pool(claim.better)),
        than=" ".join(pool(claim.than)),
        over=claim.over,
        note=note,
        protocol=claim.protocol,
        covers=covers(claim, runs.rows),
        smallest_effect=half,
        target_half_width=target,
        p_value=p_value,
        verdict_holm=verdict,
    )


def _mean(runs: Runs, which: Pool, claim: ClaimConfig) -> float:
    found = [values[claim.metric] for values in _numbers(claim, runs, which).values()]
    return sum(found) / len(found)


def _not_learnt(key: str, means: Sequence[float]) -> str:
    shown = metric(key).shown
    ours = " and ".join(map(shown.text, means))
    return f"{ours} {shown.unit}; from {shown.text(metric(key).unlearnt or math.nan)} on an error scores 0"


def covers(claim: ClaimConfig, rows: Mapping[str, RowConfig]) -> str:
    """What the intervals of a claim vary over."""
    if claim.over == "repeats":
        return "repeats of a benchmark"
    if claim.over == "subsets":
        return "labelled subsets, each with its teacher"
    pools = (claim.better, claim.than, *claim.waited_for(rows))
    taught = [rows[run] for runs in pools for run in pool(runs) if rows[run].teacher is not None]
    if not taught:
        return "seeds"
    fewest = min(len(row.teacher_seeds) for row in taught)
    return "student seeds, one teacher" if fewest == 1 else f"student seeds, {fewest} teacher seeds"


def corrected(findings: Sequence[Finding]) -> list[Finding]:
    """The findings of a part with Holm's correction over its claims of kind `greater`."""
    family = [finding for finding in findings if finding.kind == "greater"]
    adjusted = dict(
        zip((f.claim for f in family), significance.holm([finding.p_value for finding in family]), strict=True)
    )

    def one(finding: Finding) -> Finding:
        if finding.claim not in adjusted:
            return finding
        p = adjusted[finding.claim]
        holds = finding.verdict != INCONCLUSIVE and p < significance.LEVEL
        return replace(finding, p_holm=p, verdict_holm=finding.verdict if holds else INCONCLUSIVE)

    return [one(finding) for finding in findings]
