# What a user sees of a run: `workflow/scripts/console.py` instead of Snakemake's text, with the plan and its costs.
import console
from progress import Progress, Work, time_text

CONSOLE = None
if workflow.is_main_process and not workflow.output_settings.dryrun and console.wanted():
    CONSOLE = console.Console(workflow.output_settings, None)
    CONSOLE = CONSOLE if CONSOLE.take_over(snakemake_logger) else None


def work_of(job, cost):
    """A job as it is shown."""
    wildcards = dict(job.wildcards_dict)
    if "cache" in wildcards:
        teacher = CACHES[wildcards["cache"]][wildcards["audience"]][0].row.teacher
        wildcards |= {"cache": f"of {teacher}", "audience": f"for {wildcards['audience']}"}
    if "number" in wildcards:
        wildcards |= {"number": f"at {wildcards['number']}", "parts": f"of {wildcards['parts']}"}
    if "seed" in wildcards:
        wildcards["seed"] = f"seed {wildcards['seed']}"
    shown = [path for path in map(str, job.output) if path.endswith((".md", ".png", ".html"))]
    seconds = seconds_of(job, cost) * slowness(cost)
    return Work(job.rule.name.replace("_", " "), " ".join(wildcards.values()), seconds, (shown or [""])[0])


def progress_of(todo):
    """The jobs of a plan, and which of them each table and figure waits for."""
    cost, numbers = SETTINGS.cost.get(SCALE), {job: job.jobid for job in todo if job.rule.shellcmd}
    waits = {}

    def waits_for(job):
        """All jobs behind one, and itself."""
        if job not in waits:
            waits[job] = {job}.union(
                *(waits_for(other) for other in workflow.dag.dependencies[job] if other in numbers)
            )
        return waits[job]

    order = {key: place for place, key in enumerate(wanted_items())}
    tables = [job for job in numbers if job.rule.name in ("table", "figure")]
    tables.sort(key=lambda job: order.get((job.rule.name, job.wildcards_dict[job.rule.name]), len(order)))
    return Progress(
        {number: work_of(job, cost) for job, number in numbers.items()},
        {numbers[job]: [numbers[other] for other in waits_for(job)] for job in tables},
        core_count(),
    )


def begin_console(log):
    """Show the plan whose jobs start now."""
    if CONSOLE is None:
        return
    progress = progress_of(list(workflow.dag.needrun_jobs(exclude_finished=False)))
    trainings = sum(work.what == "train" for work in progress.work.values())
    left, cores = progress.left(), core_count()
    head = [f"{len(progress.work)} jobs to do, {trainings} of them trainings"]
    head[0] += f"; about {time_text(left)} on {cores} cores" if left else f" on {cores} cores"
    tiers = {TABLES[progress.work[job].which].target for job in progress.tables if progress.work[job].what == "table"}
    pages = [f"{RESULTS}/preview.html"] * ("preview" in tiers) + [f"{RESULTS}/report.html"] * bool(tiers - {"preview"})
    if pages:
        head.append(f"the page is made anew after each table: {' and '.join(pages)}")
    head.append(f"logs of jobs: {LOGS}; Snakemake's own text: {' '.join(map(os.path.relpath, log))}")
    head.append("Ctrl-C stops; the same command goes on")
    CONSOLE.begin(progress, head)


def end_console():
    """Ctrl-C is no error."""
    if CONSOLE is not None and CONSOLE.heard.is_set():
        raise SystemExit(console.INTERRUPTED)
