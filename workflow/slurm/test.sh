#!/bin/bash
# The smoke workflow through a real SLURM on this machine. As root: it installs and starts SLURM, and stops it again.
# usage: test.sh BIN [snakemake arguments]       BIN: folder of the environment's programs, such as .venv/bin
# Default target: one table, with everything that it needs; in a copy of the working tree, so that nothing is reused.
set -euo pipefail

bin=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
target=("$@")
[ ${#target[@]} -gt 0 ] || target=(table_unidistill_s6)
jobs_log=/var/log/slurm/jobs.log

finish=down
command -v scontrol >/dev/null || finish=remove # leave the machine as it was
folder=$(mktemp -d)
trap 'cd /; rm -rf "$folder"; bash "$here/workflow/slurm/single_node.sh" "$finish"' EXIT
bash "$here/workflow/slurm/single_node.sh" up
before=$(wc -l <"$jobs_log" 2>/dev/null || echo 0)

cd "$here"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' path; do
    if [ -e "$path" ]; then printf '%s\0' "$path"; fi
done | tar -c --null -T - | tar -x -C "$folder"
cd "$folder"
rm -rf results

"$bin/snakemake" "${target[@]}" --workflow-profile workflow/profiles/slurm --latency-wait 10 \
    --max-threads "$(nproc)" --config scale=smoke seeds=1

echo "jobs that SLURM ran:"
tail -n +"$((before + 1))" "$jobs_log" | grep -oE '(Name|JobState)=[^ ]+' | paste - - | sort | uniq -c
submitted=$(($(wc -l <"$jobs_log") - before))
failed=$(tail -n +"$((before + 1))" "$jobs_log" | grep -vc 'JobState=COMPLETED' || true)
[ "$submitted" -ge 4 ] || { echo "only $submitted jobs went through SLURM" >&2; exit 1; }
[ "$failed" -eq 0 ] || { echo "$failed jobs did not complete" >&2; exit 1; }
"$bin/snakemake" "${target[@]}" --cores 1 --dry-run --config scale=smoke seeds=1 | grep -q "Nothing to be done" || {
    echo "the workflow is not complete" >&2
    exit 1
}
tables=$(find results/smoke/tables -name '*.csv' | wc -l)
[ "$tables" -ge 1 ] || { echo "no table was made" >&2; exit 1; }
echo "ok: $submitted jobs through SLURM, $tables tables"
