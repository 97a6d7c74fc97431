#!/usr/bin/env bash
# One day without a scheduler: daily.sh 2026-11-20. Run from the project's folder; exits with the code of what failed.
# The same commands as airflow/dags/prebatch_daily.py. It knows less: it compares with the day before where that is there,
# starts from the model that serves, whatever its day, and publishes what passes the gate. So make days in order.
#
#     CONFIG     the job file                       DATASETS   where dt=DAY of the dataset goes
#     MODELS     where dt=DAY of the model goes     PUBLISHED  published versions and `current`
#     PYTHON     .venv/bin/python by default        WARM_START no trains from nothing; else the job file needs
#                                                              `inherit: previous`
#     DRIFT_OPTIONS, TRAIN_OPTIONS, PUBLISH_OPTIONS     more options, separated by spaces
set -euo pipefail

day=${1:?usage: daily.sh YYYY-MM-DD}
python=${PYTHON:-.venv/bin/python}
: "${CONFIG:?the job file}" "${DATASETS:?where datasets go}" "${MODELS:?where models go}" "${PUBLISHED:?what serves}"
dataset=$DATASETS/dt=$day model=$MODELS/dt=$day baseline=$MODELS/baseline/dt=$day
before=$DATASETS/dt=$(date -u -d "$day - 1 day" +%F)
read -ra drift_options <<< "${DRIFT_OPTIONS:-}"
read -ra train_options <<< "${TRAIN_OPTIONS:-}"
read -ra publish_options <<< "${PUBLISH_OPTIONS:-}"

"$python" -m pipelines.prebatch --config "$CONFIG" --output "$DATASETS" --date "$day" --overwrite
"$python" -m pipelines.audit "$dataset"
if [ -e "$before/manifest.json" ]; then
    "$python" -m pipelines.inspect "$before" "$dataset" "${drift_options[@]}"
fi
if [ -e "$PUBLISHED/current" ]; then
    [ "${WARM_START:-yes}" = no ] || train_options+=(--warm-start "$PUBLISHED/current")
    publish_options+=(--baseline "$baseline/metrics.json")
fi
"$python" -m trainer train --data "$dataset" --output "$model" "${train_options[@]}"
"$python" -m trainer evaluate --model "$model" --data "$dataset"
if [ -e "$PUBLISHED/current" ]; then
    "$python" -m trainer evaluate --model "$PUBLISHED/current" --data "$dataset" --output "$baseline"
fi
"$python" -m pipelines.embed --model "$model" --data "$dataset" --output "$model/embeddings" --overwrite
"$python" -m trainer index --model "$model" --output "$model/index"
"$python" -m trainer publish --model "$model" --to "$PUBLISHED" "${publish_options[@]}"
