#!/usr/bin/env bash
# The whole recipe: data, autoencoder, text encoders, CLIP, diffusion transformer, export, evaluation.
# Every stage is seeded, logs its loss to $RECIPE_WORK/<stage>.log.jsonl and goes on from its checkpoint after a kill.
#   bash assets/recipe/run.sh [options of train_dit.py, e.g. --steps 10000]
set -euo pipefail
cd "$(dirname "$0")"
export RECIPE_WORK=${RECIPE_WORK:-$HOME/.cache/dit_prune_viz/recipe}
python=${PYTHON:-python3}
mkdir -p "$RECIPE_WORK"

font=/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
[ -f "$font" ] || { apt-get update -qq && apt-get install -y -qq fonts-noto-color-emoji; }
fetch() { # npm package -> $RECIPE_WORK/<name>/package
  [ -d "$RECIPE_WORK/$1/package" ] && return
  mkdir -p "$RECIPE_WORK/$1"
  (cd "$RECIPE_WORK/$1" && npm pack --silent "$1@$2" && tar xzf ./*.tgz && rm ./*.tgz)
}
fetch emoji-datasource 16.0.0
fetch cldr-annotations-full 48.2.0

[ -f "$RECIPE_WORK/captions.json" ] || "$python" data.py
"$python" -W ignore train_autoencoder.py
"$python" -W ignore train_text.py
"$python" -W ignore train_clip.py
"$python" -W ignore train_dit.py "$@"
"$python" -W ignore export.py
"$python" -W ignore calibrate.py
"$python" -W ignore evaluate.py
