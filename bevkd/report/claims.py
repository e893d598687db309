"""The claims ledger: every claim is tested by paired repetitions, against its baseline and against its controls.

Verdicts for `greater`, from the 95 % paired t interval of the improvement:

- *reproduced*: the interval over the baseline lies above 0 and, where a control is due, so does the interval over the
  strongest one (the one that leaves the smallest mean improvement), and all of them have been run;
- *contradicted*: the interval over the baseline lies below 0;
- *inconclusive*: everything else, also a gain that a control explains, or may explain. The note says which.

Verdicts for `no_difference` read the interval as an equivalence test: *reproduced* when it lies within the margin,
*contradicted* when it does not and excludes 0, *inconclusive* otherwise. Failing to find a difference is no proof.

With `over: seeds`, intervals cover student seeds only: teacher, labelled frames and report frames are one fixed draw.
With `over: subsets`, they cover the labelled subsets, each with its own teacher and the mean over its seeds. With
`over: repeats`, they cover repeats of a benchmark on one machine, paired by their order.
There is no correction for the number of claims.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from bevkd.errors import DataError
from bevkd.report.fill import pooled
from bevkd.report.metrics import metric
from bevkd.report.reference import select
from bevkd.report.runs import Runs
from bevkd.report.spec import ClaimConfig, Pool, pool
from bevkd.report.stats import Interval, t_interval

VERDICTS = REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"


@dataclass(frozen=True)
class Finding:
    """One line of the ledger; positive effects point the way the claim does, in printed units (percent, x100)."""

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


def improvement(claim: ClaimConfig, runs: Runs, rival: Pool) -> Interval:
    """Paired improvement of `claim.better` over another pool, positive when `better` is better.

    Raises:
        DataError: metrics are missing, or the two share no seed.
    """
    sign = 1.0 if metric(claim.metric).higher_is_better else -1.0
    mine = pooled(runs, claim.better, "report", [claim.metric])
    theirs = pooled(runs, rival, "report", [claim.metric])
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
    for rival in claim.controls:
        try:
            gain = improvement(claim, runs, rival)
        except DataError as error:
            if error.file is None or Path(error.file).exists():  # it is there, but unusable
                raise
            not_run = not_run or _named(rival)
            continue
        # Every control has to be beaten: the one whose interval reaches lowest decides, whatever its mean.
        if control is None or _reach(gain) < _reach(control):
            control, control_run = gain, " ".join(pool(rival))
    verdict, note = judge(claim, effect, control, _named(tuple(control_run.split())), not_run)
    paper_effect = math.nan
    if claim.published is not None:
        sign = 1.0 if metric(claim.metric).higher_is_better else -1.0
        cells = [select({"paper": claim.paper, **where}).value for where in claim.published]
        paper_effect = sign * (cells[0] - cells[1])
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
    )
