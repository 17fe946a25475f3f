#!/usr/bin/env bash
# Export a Run as a LiteRT (TensorFlow Lite) file, in an environment of its own: LiteRT's converter needs an older torch
# than other engines do. The file runs anywhere with: pip install 'triscale[litert]'
#
#   examples/litert.sh RUN [ENVIRONMENT]
set -euo pipefail
run=${1:?give the folder of a Run}
environment=${2:-.venv-litert}
here=$(cd "$(dirname "$0")/.." && pwd)
if [ ! -x "$environment/bin/triscale" ]; then
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet litert-torch torchvision "$here[litert]"
fi
"$environment/bin/triscale" export "$run" --engine litert
