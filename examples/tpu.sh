#!/usr/bin/env bash
# Train by the recipe of the EfficientNet paper on the TPUs of this machine, or of a slice of several machines, from tar
# shards on object storage. It creates no machines and deletes none. Run it again after a preemption: it resumes.
#
#   pip install 'triscale[xla,remote] @ git+URL' 'jax[tpu]' gcsfs       # once on each machine
#   bash examples/tpu.sh gs://BUCKET/imagenet-shards gs-mounted/runs/b0 --network efficientnet_b0
#
# On a slice of several machines, run it on each, with the number of this machine from 0 on, and with the run's folder
# on storage that all of them see (only the first writes):
#
#   MACHINES=4 MACHINE=0 FIRST=10.0.0.2 DEVICES=16 bash examples/tpu.sh ...
#
# DEVICES is the number of TPU devices of all machines. Every device gets one micro-batch, over which it takes the
# statistics of batch norm: with a batch of 4096 on 8 devices, 512 images. Further options go to triscale train.
#
# Not verified on TPUs: it was run on simulated devices of a CPU only (tests/xla).
set -euo pipefail
images=${1:?give a folder or URL of images, such as gs://BUCKET/SHARDS}
out=${2:?give the folder of the run}
shift 2
machines=${MACHINES:-1}
devices=${DEVICES:-8}

launcher=(python -m)
if [ "$machines" -gt 1 ]; then
    launcher=(python -m torch.distributed.run --nnodes "$machines" --node-rank "${MACHINE:?give the number of this machine}"
        --master-addr "${FIRST:?give the address of the first machine}" --master-port 29500 --max-restarts 10 -m)
fi
exec "${launcher[@]}" triscale train "$images" --out "$out" --engine xla --device "${DEVICE:-tpu}" \
    --recipe efficientnet_imagenet --set "micro_batches=$devices" --from-scratch "$@"
