# What jobs may use: GPUs, and the order in which trainings start.
import os

GPUS = len(devices()) if SETTINGS.gpus == "auto" else int(SETTINGS.gpus)
if GPUS and SETTINGS.gpus_per_run > GPUS:
    stop(f"gpus_per_run is {SETTINGS.gpus_per_run}, but there are {GPUS} GPUs")
GPU = min(GPUS, 1)
GPU_PER_TRAINING = SETTINGS.gpus_per_run if GPUS else 0
# No more GPU jobs at a time than there are GPUs, also under plain `--cores all`; `--resources gpu=n` still wins.
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", GPUS)


def training_steps(run):
    """Steps of a run, or 0 when only the data tell."""
    return run_config(run).train.steps


def training_seconds(run):
    """Estimated CPU seconds of a training, or 0 when its model or scale has no entry in config/config.yaml."""
    cost = SETTINGS.cost.get(SCALE)
    if cost is None or ROWS[run].model not in cost.per_step:
        return 0.0
    method, steps = ROWS[run].method, training_steps(run)
    return cost.start + steps * cost.factor(method.kind if method else "") * cost.per_step[ROWS[run].model]


def data_seconds(index):
    """Estimated CPU seconds until an index is there."""
    cost = SETTINGS.cost.get(SCALE)
    return 0.0 if cost is None else sum(cost.of(what, DATASETS[index].kind) for what in ("simulate", "convert"))


@functools.cache
def headline_items():
    """The headline table of every paper as ("table", name), paper by paper as the page shows them."""
    default = [part for part in PARTS.values() if part.target == "all" and part.tables]
    return [("table", headline_table(load_papers()[part.paper], part.tables)) for part in default]


@functools.cache
def wanted_items():
    """(kind, name) of the tables and figures that were asked for, in the order in which they should stand, with what
    they need: trainings, as (run, seed), and indices. Headline tables come first; what is measured when nothing else
    runs comes after the other tables, then figures.
    """
    asked = sorted(workflow.dag_settings.targets) if workflow.dag_settings else []
    items = {key: {"table": TABLES, "figure": FIGURES}[key[0]][key[1]] for key in items_of(asked, ITEMS_OF)}
    needs, kinds = {}, {}
    for key, item in items.items():
        read = reads(item, ROWS)
        trainings = with_needed([pair for pairs in read.values() for pair in pairs], ROWS)
        needs[key] = [*sorted(trainings), *sorted({run_config(run).data.index for run, _ in trainings})]
        kinds[key] = (key[0] == "figure") * 2 or int(not {"cost", "profile"}.isdisjoint(read))
    weights = {key: PRINTED for key, item in items.items() if getattr(item, "published", None)}

    def seconds(need):
        """Every training costs something, known or not."""
        return data_seconds(need) if isinstance(need, str) else training_seconds(need[0]) + 1.0

    order = in_order(needs, seconds, weights, checked(headline_items))
    return {key: needs[key] for key in sorted(order, key=kinds.__getitem__)}


@functools.cache
def urgency():
    """How urgent trainings and indices are, by the first table that wants them."""
    return levels(list(wanted_items()), wanted_items())


def level_of(*needs):
    """Priority of what makes one of these needs, within the steps of which jobs have their own order."""
    return STEP * max((urgency().get(need, 0) for need in needs), default=0)


def training_priority(run, seed):
    """By table, for not every seed is wanted by the first; then what the longest chain waits for, then the longest first:
    nobody is left alone at the end.
    """
    return level_of((run, int(seed))) + 5_000 * min(WAITING[run], 5) + min(4_999, round(training_seconds(run)))


def cache_priority(cache, audience):
    """Before the trainings of the first table that wants it."""
    return level_of(*((reader.run, reader.seed) for reader in CACHES[cache][audience])) + 30_000


def evaluation_priority(run, seed):
    """Before further trainings: a table waits for it, and it takes seconds."""
    return level_of((run, int(seed))) + 40_000


def wanted_first(*indices):
    """Whether one of these indices is for the first table that is to stand."""
    first = next(iter(wanted_items().values()), indices)
    return not set(indices).isdisjoint(first)


def data_priority(*indices):
    """What the first table wants comes before everything else and takes several processes: nothing else can start.

    What later tables want takes one process beside other jobs, and comes before the trainings that wait for it; several
    would have to wait for cores that single-threaded jobs keep busy.
    """
    return level_of(*indices) + (STEP * (len(wanted_items()) + 2) if wanted_first(*indices) else 40_000)


def data_processes(*indices):
    """How many processes make these indices; the smoke scale's take seconds, less than more processes take to start."""
    return 8 if SCALE != "smoke" and wanted_first(*indices) else 1


def table_priority(wildcards):
    """Tables, figures and parts take seconds: they come as soon as they can."""
    return STEP * (len(wanted_items()) + 1)
