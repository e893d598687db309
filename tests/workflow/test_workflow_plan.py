"""The plan: what is validated before it, what it holds, what makes it run again. Nothing is trained here."""

from __future__ import annotations

import json
import os
import re
import resource
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from workflow_case import ROOT, Plans, copy_repository, jobs, run, small_copy, snakemake, with_fake_launcher

from bevkd.config import load_rows, load_run, rows_at
from bevkd.config.chain import with_needed
from bevkd.config.tiers import of_target
from bevkd.distill.cache_key import audience_of, caches_of
from bevkd.report.parts import parts_of
from bevkd.report.spec import load_claims, load_figures, load_tables

NUSCENES_TABLES = (
    *("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample"),
    *("sample_annotation", "sample_data", "scene", "sensor", "visibility"),
)
TARGETS = {
    *("all", "preview", "extended", "tuning", "claims", "report", "report_only"),
    *("unidistill", "label_efficiency", "label_efficiency_extended", "datasets"),
    *(
        f"table_{name}"
        for name in ("unidistill_paths", "unidistill_response", "unidistill_adapters", "label_efficiency")
    ),
    *(f"table_unidistill_s{k}" for k in range(1, 9)),
    *("table_crkd_gates", "table_crkd_events", "figure_crkd_1", "figure_crkd_2"),
    *(
        f"figure_{name}"
        for name in ("unidistill_s1", "unidistill_s2", "unidistill_s3", "detections", "learning_curves")
    ),
}

# Baselines and re-weighted controls of Tables S6 and S7, which at the small scales are those of the other tables.
PAPER_ONLY = [f"{table}_{kind}" for table in ("s6", "s7") for kind in ("base", "reweighted")] + ["simdistill_c_grid"]


def default_runs(scale: str, *more: str) -> set[tuple[str, str]]:
    """(run, seed) of the rows of tier `all` at a scale, and of some others, with all that these need."""
    rows = rows_at(scale)
    chosen = [run for run, row in rows.items() if row.target == "all" or run in more]
    return {(run, str(seed)) for run, seed in with_needed([(r, s) for r in chosen for s in rows[r].seeds], rows)}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that change it for a while."""
    return copy_repository(tmp_path_factory.mktemp("clone"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_lint_is_clean() -> None:
    assert "Congratulations" in snakemake(ROOT, "--lint")


def test_format_is_clean() -> None:
    run(ROOT, "snakefmt", "--check", "Snakefile", "workflow/rules")


def test_every_target_exists(plans: Plans) -> None:
    listed = plans.printed("--list").split()
    assert set(listed) >= TARGETS


@pytest.mark.parametrize("scale", ["smoke", "sim"])
def test_clean_clone_plans_every_default_run(plans: Plans, scale: str) -> None:
    plan = plans.everything(scale)
    counts = jobs(plan)
    assert counts["simulate"] == counts["convert"] == 4  # one data set in each format
    parts = parts_of(load_tables(scale), load_figures(scale), load_claims(scale)).values()
    assert (counts["report"], counts["part"]) == (1, sum(part.target == "all" for part in parts))
    trained = set(re.findall(rf"output: results/runs/{scale}/(\w+)/seed(\d+)/model.pt", plan))
    assert trained == default_runs(scale)
    assert {"image_weights", "image_weights_swin"} < {run for run, _ in trained}
    assert re.search(r"estimated cost: (\d+) of \1 trainings to do, about \d+ CPU minutes", plan)


def test_the_paper_scale_is_planned_on_the_real_data_set(tmp_path: Path) -> None:
    folder = copy_repository(tmp_path)
    tables = folder / "data" / "nuscenes" / "v1.0-trainval"
    tables.mkdir(parents=True)
    for name in NUSCENES_TABLES:
        (tables / f"{name}.json").write_text("[]\n")  # a plan looks at names and times only
    for name in ("kitti/training/calib", "waymo/training/vehicle_pose"):
        (folder / "data" / name).mkdir(parents=True)
    counts = jobs(plan := snakemake(folder, "--cores", "2", "--dry-run", "--config", "scale=paper"))
    assert "simulate" not in counts
    assert counts["convert"] == 3
    assert counts["train"] == len(default_runs("paper", *PAPER_ONLY))
    assert "data/index/nuscenes/frames.parquet" in plan
    for folder in ("data/weights/resnet-50", "data/weights/swin-tiny"):
        assert plan.count(f"{folder}: there are no weights here") == 1


def test_trainings_without_weights_to_start_from_stop_before_the_first_job(tmp_path: Path) -> None:
    folder = with_fake_launcher(small_copy(tmp_path))
    wanted = "results/runs/paper/{}/seed0/model.pt"
    done = run(
        folder, *("snakemake", wanted.format("unidistill_p2"), "--cores", "1", "--config", "scale=paper"), ok=False
    )
    assert done.returncode != 0
    assert "hf download microsoft/resnet-50 model.safetensors --local-dir data/weights/resnet-50" in done.stdout
    assert not (folder / "calls.jsonl").exists(), "nothing was started"
    snakemake(folder, wanted.format("lidar_base"), "--cores", "1", "--config", "scale=paper")  # needs none
    (folder / "data" / "weights" / "resnet-50").mkdir(parents=True)
    (folder / "data" / "weights" / "resnet-50" / "model.safetensors").touch()
    snakemake(folder, wanted.format("unidistill_p2"), "--cores", "1", "--config", "scale=paper")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="with one core every job has the machine for itself")
def test_benchmarks_have_the_machine_for_themselves(plans: Plans) -> None:
    plan = plans("--cores", "2", "--config", "scale=smoke", "--", "table_unidistill_s8")
    measured = re.findall(r"rule bench:.*?threads: (\d+)", plan, flags=re.DOTALL)
    assert measured == ["2"] * 7
    assert jobs(plan)["bench"] == 7
    assert "rule bench:" not in plans("--cores", "1", "--config", "seeds=1", "--", "table_unidistill_s6")


def test_the_paper_scale_is_planned_without_any_data(plans: Plans) -> None:
    """Live teachers, baselines with the loss of their table, and a note for every data set that is not there."""
    plan = plans.everything("paper")
    counts = jobs(plan)
    assert "cache_teacher" not in counts
    assert counts["convert"] == 3
    for root in ("data/nuscenes", "data/kitti", "data/waymo"):
        assert plan.count(f"{root}: there is no") == 1
    trained = set(re.findall(r"output: results/runs/paper/(\w+)/seed(\d+)/model.pt", plan))
    assert trained == default_runs("paper", *PAPER_ONLY)
    assert not {"image_weights", "camera_further", "scratch_p2"} & {run for run, _ in trained}
    for table in (*(f"unidistill_s{k}" for k in range(1, 9)), "unidistill_paths"):
        assert f"results/paper/tables/{table}.csv" in plan
    measured = 7 + 3  # UniDistill's table S8, DistillBEV's cost; one frame a step, says UniDistill
    assert plan.count("--repeats 3 --batch 1 --out") == counts["bench"] == measured


def test_committed_results_do_not_count_as_done(plans: Plans, tmp_path: Path) -> None:
    """A clone holds the tables of the default scale; without their runs, everything is made again."""
    folder, plan = copy_repository(tmp_path), plans.everything()
    outputs = {
        name
        for line in re.findall(r"output: (.*)", plan)
        for name in line.split(", ")
        if not name.startswith(("results/runs", "results/cache", "data/"))
    }
    assert any(name.startswith("results/tables/") for name in outputs)
    for name in outputs:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("committed")
    again = jobs(snakemake(folder, "--cores", "2", "--dry-run"))
    assert again == jobs(plan)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("config/config.yaml", "seed: 0", "seeed: 0", ["config/config.yaml", "seeed", "'seed'"]),
        (
            "config/papers/unidistill/runs.yaml",
            "camera_depth: {",
            "camera_depth: {seeds: one, ",
            ["unidistill/runs.yaml", "'camera_depth'", "seeds", "'one'"],
        ),
        (
            "config/papers/unidistill/runs.yaml",
            "teacher: fusion_base,",
            "teacher: fusion_bse,",
            ["unidistill/runs.yaml", "fusion_bse", "fusion_base"],
        ),
        (
            "config/papers/unidistill/recipe.yaml",
            "lr: 1.0e-3",
            "learning_rate: 1.0e-3",
            ["unidistill/recipe.yaml", "learning_rate"],
        ),
        (
            "config/papers/unidistill/tables.yaml",
            "caption: Camera student",
            "captoin: Camera student",
            ["unidistill/tables.yaml", "'unidistill_scratch'", "'captoin'", "'caption'"],
        ),
        ("config/papers/unidistill/figures.yaml", "title:", "titel:", ["'unidistill_s1'", "titel", "'title'"]),
        (
            "config/papers/unidistill/claims.yaml",
            "statement:",
            "statment:",
            ["unidistill/claims.yaml", "'path1'", "statment", "'statement'"],
        ),
        (
            "config/papers/unidistill/runs.yaml",
            "lidar_base: {",
            "lidar_base: {set: {train: {steps_factor: 2.0}}, ",
            ["claims.yaml: comparison", "'lidar_base' 40 epochs", "compared runs train the same steps"],
        ),
        ("config/scales/paper.yaml", "common:", "comon:", ["paper.yaml", "comon", "'common'"]),
        (
            "config/scales/paper.yaml",
            "iou_weight: 5.0",
            "iou_wieght: 5.0",
            ["scales/paper.yaml", "model.loss.iou_wieght", "'iou_weight'"],
        ),
    ],
)
def test_a_mistake_stops_before_the_plan(clone: Path, name: str, old: str, new: str, words: list[str]) -> None:
    path = clone / name
    before = path.read_text()
    edit(path, old, new)
    try:
        done = run(clone, "snakemake", "--cores", "1", "--dry-run", "--config", "scale=paper", ok=False)
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert "Building DAG" not in done.stdout
    for word in words:
        assert word in done.stdout


def test_an_unknown_setting_on_the_command_line_is_refused(clone: Path) -> None:
    done = run(clone, "snakemake", "--cores", "1", "--dry-run", "--config", "scal=smoke", ok=False)
    assert done.returncode != 0
    assert "scal: unknown key (did you mean 'scale'?)" in done.stdout


def test_the_preview_trains_single_seeds_of_default_runs(plans: Plans) -> None:
    plan = plans("preview", "--cores", "2", "--config", "scale=smoke")
    trained = set(re.findall(r"output: results/runs/smoke/(\w+)/seed(\d+)/model.pt", plan))
    tables = of_target(load_tables("smoke"), "preview").values()
    rows = rows_at("smoke")
    assert trained == {(run, str(seed)) for table in tables for run, seed in with_needed(table.needs(rows), rows)}
    assert {seed for _, seed in trained} == {"0"}
    assert trained <= default_runs("smoke")
    counts = jobs(plan)
    assert (counts["table"], counts["figure"], counts["report_preview"]) == (len(tables), len(tables), 1)
    assert not {"claims", "report", "part"} & set(counts)


def test_a_changed_table_is_made_again_and_its_neighbours_are_not(tmp_path: Path) -> None:
    folder = with_fake_launcher(small_copy(tmp_path))
    tables = [f"results/smoke/tables/{name}.csv" for name in ("unidistill_s7", "unidistill_adapters")]
    command = (*tables, "--cores", "2", "--config", "scale=smoke", "seeds=1")
    snakemake(folder, *command)
    assert "Nothing to be done" in snakemake(folder, "--dry-run", *command)
    edit(folder / "config" / "papers" / "unidistill" / "tables.yaml", "The paper's mean AP", "Its mean AP")
    plan = snakemake(folder, "--dry-run", *command)
    assert jobs(plan) == {"table": 1, "total": 1}
    assert "unidistill_s7" in plan


def test_one_table_needs_only_its_runs(plans: Plans) -> None:
    plan = plans("--cores", "1", "--config", "seeds=1", "--", "table_unidistill_s6")
    trained = set(re.findall(r"output: results/runs/sim/(\w+)/seed0/model.pt", plan))
    wanted = {"camera_base", "lidar_base", "s6_feature", "s6_feature_adapt", "s6_relation", "s6_relation_adapt"}
    assert wanted <= trained
    assert not {name for name in trained if name.startswith(("s7_", "le_", "curve_"))}


def test_one_paper_needs_only_its_runs_and_says_what_it_costs(plans: Plans) -> None:
    plan = plans("datasets", "--cores", "1")
    counts = jobs(plan)
    assert (counts["train"], counts["table"], counts["part"]) == (2, 2, 1)
    assert not {"report", "figure"} & counts.keys()
    assert set(re.findall(r"output: results/runs/sim/(\w+)/seed0/model.pt", plan)) == {"kitti_lidar", "waymo_lidar"}
    assert re.search(r"estimated cost: 2 of 2 trainings to do", plan)
    plan = plans("label_efficiency", "--cores", "1")
    made = set(re.findall(r"results/(?:tables|figures|ledger)/(\w+)\.(?:csv|png)", plan))
    part = parts_of(load_tables("sim"), load_figures("sim"), load_claims("sim"))["label_efficiency"]
    assert made == {"label_efficiency", *part.tables, *part.figures}
    assert "detections" in made


def test_a_table_of_mixed_sources_asks_for_all_of_them(tmp_path: Path) -> None:
    folder = copy_repository(tmp_path)
    path = folder / "config" / "papers" / "datasets" / "tables.yaml"
    plain = yaml.safe_load(path.read_text())

    def planned(*columns: str, ok: bool) -> str:
        plain["tables"]["kitti"] |= {"columns": list(columns)}
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
        return snakemake(folder, "--cores", "1", "--dry-run", "--config", "scale=smoke", "--", "table_kitti", ok=ok)

    missing = planned("params", "mAP@range:0-20", "step_time_live", ok=False)
    assert "results/runs/smoke/kitti_lidar/seed0/breakdown_val.json" in missing, "KITTI has no breakdown"
    counts = jobs(planned("params", "mAP", "step_time_live", ok=True))
    mixed = ("train", "evaluate", "bench", "profile", "table")
    assert {rule: counts[rule] for rule in mixed} == dict.fromkeys(mixed, 1)
    plan = planned("params", "mAP", ok=True)
    assert "results/smoke/profiles/kitti_lidar.json" in plan
    assert {rule: jobs(plan)[rule] for rule in ("train", "profile")} == {"train": 1, "profile": 1}


def test_a_breakdown_reads_what_an_evaluation_leaves(plans: Plans) -> None:
    """Nothing is trained or evaluated again for it, and its bins are those of the scale."""
    run = "results/runs/smoke/lidar_base/seed0"
    plan = plans("--cores", "1", "--config", "scale=smoke", "--", f"{run}/breakdown_val.json")
    assert {rule: jobs(plan)[rule] for rule in ("train", "evaluate", "breakdown")} == dict.fromkeys(
        ("train", "evaluate", "breakdown"), 1
    )
    assert f"{run}/metrics_val.json" in plan
    assert re.search(r"breakdown --run lidar_base --scale smoke --seed 0 --split val --range-bins 0,10,15,25 ", plan)


def test_what_figures_of_crkd_show_is_looked_at_once(plans: Plans) -> None:
    """Tables and figures share one look at each run; a figure of examples takes the seeds that belong together."""
    items = ("table_crkd_gates", "table_crkd_events", "figure_crkd_1", "figure_crkd_2")
    options = ("--cores", "1", "--config", "scale=smoke", "seeds=1")
    plan = plans(*options, "--", *items)
    looked = {
        kind: set(re.findall(rf"output: results/runs/smoke/(\w+/seed\d)/{kind}_val.json", plan))
        for kind in ("gates", "matches")
    }
    own = {f"{run}/seed0" for run in ("crkd", "crkd_further", "crkd_student", "crkd_teacher")}
    assert own <= looked["gates"] & looked["matches"]
    counts = jobs(plan)
    assert (counts["gates"], counts["matches"]) == (len(looked["gates"]), len(looked["matches"]))
    assert (counts["table"], counts["figure"]) == (2, 2)
    plan = plans(*options, "--", "figure_crkd_2")
    assert jobs(plan)["matches"] == 3
    assert "gates" not in jobs(plan)


def lasting(page: str) -> list[str]:
    """What a page shows of results; which settings the methods and detectors have is a matter of the code."""
    results, settings = page.split('<section id="summary">')[1].split('<section id="behaviour">')
    return [results, settings.split('<section id="configs">')[1].split('<section id="provenance">')[0]]


@pytest.mark.committed_results
def test_the_page_is_made_from_what_is_committed(tmp_path: Path) -> None:
    """From a fresh clone, without a trained run, an index or a data set: the same page, and nothing else is touched."""
    folder = copy_repository(tmp_path, results=True)
    assert not (folder / "data").exists()
    assert not (folder / "results" / "runs").exists()
    made = ["report.html", "claims.csv", "metrics.json"]
    made += ["claims_extended.csv"] * any((folder / "results" / "ledger").glob("*_extended.csv"))
    made += [f"plots/{name}.csv" for name in ("seeds", "classes", "training")]
    before = {path: path.read_bytes() for path in (folder / "results").rglob("*") if path.is_file()}
    for name in made:
        (folder / "results" / name).unlink()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    log = snakemake(folder, "--cores", "1", "report_only")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "1 of 1 steps (100%) done" in log
    after = {path: path.read_bytes() for path in before}
    page = folder / "results" / "report.html"
    assert {str(path) for path in before if after[path] != before[path]} <= {str(page)}
    assert lasting(after[page].decode()) == lasting(before[page].decode())
    new = {path.relative_to(folder / "results").parts[0] for path in (folder / "results").rglob("*")}
    assert new - {"logs"} == {path.relative_to(folder / "results").parts[0] for path in before}
    assert used.ru_utime + used.ru_stime - spent.ru_utime - spent.ru_stime < 60


def test_a_changed_setting_repeats_its_runs_and_prose_does_not(tmp_path: Path) -> None:
    folder = with_fake_launcher(small_copy(tmp_path))
    models = [f"results/runs/smoke/{name}/seed0/model.pt" for name in ("lidar_base", "camera_base")]
    command = (*models, "--cores", "2", "--config", "scale=smoke")
    snakemake(folder, *command)
    assert "Nothing to be done" in snakemake(folder, "--dry-run", *command)

    rows = folder / "config" / "papers" / "unidistill" / "runs.yaml"
    edit(rows, "doc: LiDAR detector}", "doc: other words}")
    assert "Nothing to be done" in snakemake(folder, "--dry-run", *command)

    edit(rows, "lidar_base: {", "lidar_base: {set: {train: {lr: 0.5}}, ")
    plan = snakemake(folder, "--dry-run", *command)
    assert jobs(plan)["train"] == 1
    assert "Params have changed" in plan


def test_changed_settings_measure_a_run_again(tmp_path: Path) -> None:
    """A run that is measured need not be trained: its costs and profile must go by the settings themselves."""
    folder = with_fake_launcher(small_copy(tmp_path))
    files = [f"results/smoke/{kind}/lidar_base.json" for kind in ("costs", "profiles")]
    command = (*files, "--cores", "2", "--config", "scale=smoke")
    log = snakemake(folder, *command)
    assert "profile --run lidar_base" in snakemake(folder, "--printshellcmds", "--dry-run", "--forceall", *command)
    assert jobs(log).keys() & {"train", "bench", "profile"} == {"bench", "profile"}
    assert "Nothing to be done" in snakemake(folder, "--dry-run", *command)
    rows = folder / "config" / "papers" / "unidistill" / "runs.yaml"
    edit(rows, "lidar_base: {", "lidar_base: {set: {model: {lidar: {cell: 0.9}}}, ")
    plan = snakemake(folder, "--dry-run", *command)
    assert {rule: jobs(plan)[rule] for rule in ("bench", "profile")} == {"bench": 1, "profile": 1}
    assert "Params have changed" in plan


def overlaps(folder: Path) -> bool:
    """Whether two trainings ran at the same time."""
    calls = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
    trainings = sorted((c["began"], c["ended"]) for c in calls if c["command"] == "train")
    assert len(trainings) == 3
    return any(later[0] < earlier[1] for earlier, later in pairwise(trainings))


@pytest.mark.parametrize(("gpus", "side_by_side"), [(1, False), (0, True)])
def test_gpu_jobs_do_not_exceed_the_gpus(tmp_path: Path, gpus: int, side_by_side: bool) -> None:
    folder = with_fake_launcher(small_copy(tmp_path), train_seconds=1.0)
    models = [f"results/runs/smoke/lidar_base/seed{seed}/model.pt" for seed in (0, 1, 2)]
    snakemake(folder, *models, "--cores", "3", "--config", "scale=smoke", f"gpus={gpus}")
    calls = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
    assert {call["gpus"] for call in calls if call["command"] == "train"} == {gpus}
    assert overlaps(folder) is side_by_side


def test_teachers_start_first(tmp_path: Path) -> None:
    folder = with_fake_launcher(small_copy(tmp_path))
    names = ["camera_fresh", "camera_reweighted", "lidar_base", "fusion_base"]
    models = [f"results/runs/smoke/{name}/seed0/model.pt" for name in names]
    log = snakemake(folder, *models, "--cores", "1", "--config", "scale=smoke")
    order = re.findall(r"rule train:\n.*\n\s+output: results/runs/smoke/(\w+)/", log)
    assert set(order[:-2]) == {"image_weights", "lidar_base", "camera_base", "fusion_base"}
    assert order.index("fusion_base") > order.index("lidar_base"), "which it starts from"


def test_groups_of_the_cluster_profile_can_be_planned(plans: Plans) -> None:
    """Rules that need each other by way of a rule outside of their group could not be submitted together."""
    profile = yaml.safe_load((ROOT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())
    plan = plans("--config", "scale=smoke", "seeds=1", "--groups", *profile["groups"])
    assert jobs(plan)["train"] > 100


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_profiles_load(plans: Plans, profile: str) -> None:
    if profile == "slurm":
        pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the slurm extra")
    folder = "profiles/default" if profile == "default" else f"workflow/profiles/{profile}"
    plan = plans("table_unidistill_s7", "--workflow-profile", folder, "--config", "scale=smoke")
    assert jobs(plan)["table"] == 1
    assert yaml.safe_load((plans.clone / folder / "config.yaml").read_text())["rerun-incomplete"] is True


def test_conda_environment_names_what_bevkd_imports() -> None:
    listed = yaml.safe_load((ROOT / "workflow" / "envs" / "bevkd.yaml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in listed if isinstance(entry, dict)]
    named = {re.split(r"[ <>=]", line)[0] for line in pip}
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'"([a-z0-9]+)', project.partition("dependencies = [")[2].partition("]")[0])
    assert set(wanted) - named <= {"snakemake", "dvc"}, "jobs run without the workflow tools"


def test_a_teacher_has_one_cache_job_for_the_rows_of_a_paper_and_tier(tmp_path: Path) -> None:
    """Whatever they tap; one paper asks for none of another one's, and a tier for none of a later one's."""
    folder = copy_repository(tmp_path)

    def made(*targets: str, scale: str = "smoke") -> list[tuple[str, str]]:
        plan = snakemake(folder, *targets, "--cores", "1", "--dry-run", "--config", f"scale={scale}")
        found = re.findall(rf"output: results/cache/{scale}/(\w+)/([\w-]+)\.json$", plan, flags=re.MULTILINE)
        assert len(found) == len(set(found)) == jobs(plan)["cache_teacher"]
        return found

    papers = {paper: made(paper) for paper in ("crkd", "distillbev")}
    for paper, found in papers.items():
        assert {audience for _, audience in found} == {f"{paper}-all"}
    whole = made(scale="sim")
    assert {audience.partition("-")[2] for _, audience in whole} <= {"all", "demand"}
    assert len({cache for cache, _ in whole}) <= 50, "87 when each choice of taps had a cache of its own"
    rows = [row for row in load_rows().values() if row.teacher and row.target == "all"]
    read = {(name, audience_of(run)) for run in (load_run(row.id, "sim", row.seeds[0]) for row in rows)
            for name in caches_of(run)}  # fmt: skip
    assert set(whole) <= read | {one for one in whole if one[1].endswith("-demand")}


def test_students_wait_for_the_teacher_of_their_seed(tmp_path: Path) -> None:
    folder = copy_repository(tmp_path)
    runs = folder / "config" / "papers" / "label_efficiency" / "runs.yaml"
    own = {
        "pairs_teacher": {"model": "lidar_voxel", "seeds": [0, 1]},
        "pairs": {"model": "camera", "seeds": [0, 1, 2], "teacher": "pairs_teacher", "teacher_seed": "paired"},
    }
    own["pairs"]["method"] = {"kind": "dense"}
    own["pairs_live"] = {**own["pairs"], "teacher_mode": "live"}
    content = yaml.safe_load(runs.read_text())
    content["runs"] |= {name: {**row, "target": "demand", "dataset": "nuscenes_sim"} for name, row in own.items()}
    runs.write_text(yaml.safe_dump(content))
    wanted = [f"results/runs/smoke/{name}/seed{seed}/model.pt" for name in ("pairs", "pairs_live") for seed in range(3)]
    plan = snakemake(folder, "--cores", "1", "--dry-run", "--config", "scale=smoke", "--", *wanted)
    assert jobs(plan)["train"] == 9, "with the weights that cameras start from"
    assert jobs(plan)["cache_teacher"] == 2
    for student in ("pairs", "pairs_live"):
        for seed in range(3):
            job = re.search(rf"input: (.*)\n    output: results/runs/smoke/{student}/seed{seed}/model\.pt", plan)
            assert job is not None
            wants = f"pairs_teacher_seed{seed % 2}_" if student == "pairs" else f"pairs_teacher/seed{seed % 2}/model.pt"
            assert wants in job[1]
    caches = re.findall(r"input: (.*)\n    output: results/cache/smoke/pairs_teacher_seed(\d)_", plan)
    assert sorted(seed for _, seed in caches) == ["0", "1"]
    assert all(f"pairs_teacher/seed{seed}/model.pt" in wants for wants, seed in caches)
