#!/usr/bin/env bash
# Trains, evaluates and writes everything in RESULTS.md, from the prepared sets:
#
#   make results ARGS="data runs/results"
#
# The arguments: where the sets lie, and where runs go. What is finished there is not done again, so
# that a call that was stopped goes on; each test split is read once, at the end of its run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
data="${1:-data}" out="${2:-runs/results}"
python=.venv/bin/python

cross_validate() { # name, then flags
  [[ -e "$out/$1.json" ]] ||
    "$python" -m train.cross_validate --data-dir "$data" --output "$out/$1.json" "${@:2}"
}

baseline() { # name, then flags
  [[ -e "$out/$1.json" ]] ||
    "$python" -m train.baseline --data-dir "$data" --output "$out/$1.json" "${@:2}"
}

pretrain() { # name, then flags
  [[ -e "$out/$1.npz" ]] ||
    "$python" -m train.pretrain --data-dir "$data" --output "$out/$1.npz" "${@:2}"
}

compare() { # name, then flags: on validation alone, for a choice
  [[ -e "$out/$1/metrics.json" ]] ||
    "$python" -m train.run --data-dir "$data" --run-dir "$out/$1" --strategy one_device "${@:2}"
  evaluate "$1" --split validation
}

train() { # name, then flags
  compare "$@"
  evaluate "$1" --split train
  evaluate "$1" --split test
}

evaluate() { # name, then flags; $3 is the split
  [[ -e "$out/$1/evaluation-$3/evaluation.json" ]] ||
    "$python" -m train.evaluate "$out/$1" --data-dir "$data" "${@:2}"
}

fetal_health() {
  local flags=(--dataset fetal_health/kaggle --folds 5 --pool-splits --seeds 0 1 2)
  flags+=(--strategy one_device)
  cross_validate dcn "${flags[@]}" --model dcn --epochs 40 --weight-decay 0.2 --warmup-epochs 2
  cross_validate mlp_report "${flags[@]}" --model mlp_report --no-baselines
  cross_validate mlp_report_best "${flags[@]}" --model mlp_report_best --no-baselines
}

brain_tumor_mri() {
  local flags=(--image-size 160 --model efficientnet_lite0 --unfreeze-from all --epochs 20)
  flags+=(--fine-tune-epochs 20 --fine-tune-learning-rate 0.001 --weight-decay 0.05)
  flags+=(--label-smoothing 0.1 --warmup-epochs 1)
  local smaller=("${flags[@]}" --global-batch-size 32 --fine-tune-learning-rate 0.0007)
  baseline mri_baselines --dataset brain_tumor_mri/deduplicated
  train mri --dataset brain_tumor_mri/deduplicated "${flags[@]}"
  evaluate mri --split test_new
  # Two pictures of 254 better than batches of 64, which is within what single runs differ by.
  compare mri_batch_32 --dataset brain_tumor_mri/deduplicated "${smaller[@]}"
  compare mri_mixup --dataset brain_tumor_mri/deduplicated "${smaller[@]}" --mixup 0.2
  compare mri_weights --dataset brain_tumor_mri/deduplicated "${smaller[@]}" \
    --class-weights balanced
  baseline mri_as_given_baselines --dataset brain_tumor_mri/kaggle
  train mri_as_given --dataset brain_tumor_mri/kaggle "${flags[@]}"
  # Shorter, and the last epoch counts: the fold that is measured on chooses nothing.
  flags+=(--epochs 10 --fine-tune-epochs 12 --early-stopping 0 --strategy one_device)
  flags+=(--dataset brain_tumor_mri/deduplicated --folds 5 --pool-splits --seeds 0)
  cross_validate mri_folds "${flags[@]}"
  cross_validate mri_folds_parted "${flags[@]}" --no-group-folds
}

song_lyrics() {
  local language=(--model gru_language --epochs 4 --learning-rate 0.001 --weight-decay 0.05)
  for seed in 0 1 2; do
    train "lyrics_$seed" --dataset song_lyrics/kaggle --model gru_pairs --seed "$seed"
  done
  pretrain lyrics_language --dataset song_lyrics/kaggle
  for seed in 0 1 2; do
    train "lyrics_language_$seed" --dataset song_lyrics/kaggle "${language[@]}" --seed "$seed" \
      --weights "$out/lyrics_language.npz"
  done
  baseline lyrics_baselines --dataset song_lyrics/kaggle \
    --mean-with "$out"/lyrics_language_{0,1,2}
  train lyrics_basic --dataset song_lyrics/kaggle --feature token_ids_basic --model lstm
  train lyrics_spacy --dataset song_lyrics/kaggle --feature token_ids --model lstm
  # Chosen for a gap between training and validation below 0.10.
  train lyrics_regular --dataset song_lyrics/kaggle "${language[@]}" --dropout 0.65 \
    --weights "$out/lyrics_language.npz"
  for seed in 0 1 2; do
    train "artists_$seed" --dataset song_lyrics/by_artist --model gru_pairs --seed "$seed"
  done
  pretrain artists_language --dataset song_lyrics/by_artist
  for seed in 0 1 2; do
    train "artists_language_$seed" --dataset song_lyrics/by_artist "${language[@]}" \
      --seed "$seed" --weights "$out/artists_language.npz"
  done
  baseline artists_baselines --dataset song_lyrics/by_artist \
    --mean-with "$out"/artists_language_{0,1,2}
}

fetal_health
brain_tumor_mri
song_lyrics
"$python" -m train.results \
  --cross-validations "$out"/{dcn,mlp_report,mlp_report_best,mri_folds,mri_folds_parted}.json \
  --baselines "$out"/{mri_baselines,mri_as_given_baselines,lyrics_baselines,artists_baselines}.json \
  --runs "$out"/mri{,_batch_32,_mixup,_weights,_as_given} "$out"/artists_{,language_}{0,1,2} \
  "$out"/lyrics_{0,1,2,language_0,language_1,language_2,basic,spacy,regular}
