#!/usr/bin/env bash
# The paper's method end to end at a small size, in about two minutes: search a baseline, search the coefficients of its
# scaling law, scale a family, fit one member to a budget and train it, and transfer its weights to other images. Use
# more --epochs and --trials and your own images for real results.
#
#   bash examples/whole_way.sh FOLDER
set -euo pipefail
out=${1:?give a new output folder}
mkdir -p "$out"
cd "$out"

# Images: the handwritten digits of scikit-learn, six classes for search and training, four for transfer.
triscale demo --only-data --out .
for part in train test; do
    mkdir -p "known/$part" "new/$part"
    for digit in 0 1 2 3 4 5; do cp -r "digits/$part/$digit" "known/$part/"; done
    for digit in 6 7 8 9; do cp -r "digits/$part/$digit" "new/$part/"; done
done

# The skeleton of the search space: EfficientNet-B0 for 16 pixels, scaled down.
triscale scale efficientnet_b0@16 --law 1.2,1.4,1 --budget 2M --out skeleton.json

# The baseline: 6 networks of a small space around the skeleton, one epoch each, the best trained a little longer.
triscale search baseline known --skeleton skeleton.json --space small --target 2M --trials 6 --batch 3 \
    --strategy evolution --epochs 1 --finalists 1 --final-epochs 2 --out baseline

# STEP 1: alpha, beta and gamma of the baseline, from candidates of twice its cost.
triscale search coefficients known --baseline baseline/network.json --method grid --step 0.2 --tolerance 0.2 \
    --number 3 --epochs 1 --seeds 0 --out coefficients

# STEP 2: the family.
triscale family --baseline baseline/network.json --law coefficients --phis 0..3 --classes 6 --out family

# Fit one member to a budget; train, evaluate, export and explain it.
triscale fit known --baseline baseline/network.json --law coefficients --budget 3M --epochs 4 --out run

# Fine-tune its weights on other images.
triscale train new --weights run --epochs 10 --out transferred
