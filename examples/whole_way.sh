#!/usr/bin/env bash
# The paper's whole way at a small size, in two minutes or so: a baseline is searched for, then the coefficients of a
# law for it; the two make a family; one member is fitted to a budget and trained; its weights are transferred to other
# images. With --epochs, --trials and images of your own it is the real thing.
#
#   bash examples/whole_way.sh FOLDER
set -euo pipefail
out=${1:?give a new folder for what is made}
mkdir -p "$out"
cd "$out"

# Images: handwritten digits that come with scikit-learn. Six of them to search and train on, four to transfer to.
triscale demo --only-data --out .
for part in train test; do
    mkdir -p "known/$part" "new/$part"
    for digit in 0 1 2 3 4 5; do cp -r "digits/$part/$digit" "known/$part/"; done
    for digit in 6 7 8 9; do cp -r "digits/$part/$digit" "new/$part/"; done
done

# Where the search starts from: EfficientNet-B0 for 16 pixels, made small.
triscale scale efficientnet_b0@16 --law 1.2,1.4,1 --budget 2M --out skeleton.json

# The baseline: 6 networks of a small space around the skeleton, one epoch each, the best trained a little longer.
triscale search baseline known --skeleton skeleton.json --space small --target 2M --trials 6 --batch 3 \
    --strategy evolution --epochs 1 --finalists 1 --final-epochs 2 --out baseline

# STEP 1: alpha, beta and gamma for it, from candidates of twice its cost.
triscale search coefficients known --baseline baseline/network.json --method grid --step 0.2 --tolerance 0.2 \
    --number 3 --epochs 1 --seeds 0 --out coefficients

# STEP 2: the family.
triscale family --baseline baseline/network.json --law coefficients --phis 0..3 --classes 6 --out family

# One member for a budget, trained, evaluated, exported, explained.
triscale fit known --baseline baseline/network.json --law coefficients --budget 3M --epochs 4 --out run

# Its weights on other images.
triscale train new --weights run --epochs 10 --out transferred
