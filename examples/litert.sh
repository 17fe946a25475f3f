#!/usr/bin/env bash
# Export a run as a LiteRT (TensorFlow Lite) file in a separate environment, since LiteRT's converter needs another
# torch than other engines. To run the file: pip install 'triscale[litert]'
#
#   examples/litert.sh RUN [ENVIRONMENT [OPTIONS OF triscale export]]
set -euo pipefail
run=${1:?give the folder of a run}
environment=${2:-.venv-litert}
here=$(cd "$(dirname "$0")/.." && pwd)
if [ ! -x "$environment/bin/triscale" ]; then
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet litert-torch torchvision "$here[litert]"
fi
"$environment/bin/triscale" export "$run" --engine litert "${@:3}"
