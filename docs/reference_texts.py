"""Texts of the generated reference pages, which ``generate.py`` fills with what the code says."""

from __future__ import annotations

ENVIRONMENT = {
    "TRISCALE_CACHE": "Cache folder of downloads, scans, data sets, runs of weights and compiled kernels. The default "
    "is `$XDG_CACHE_HOME/triscale`, or `~/.cache/triscale`.",
    "XDG_CACHE_HOME": "Parent of the cache folder if `TRISCALE_CACHE` is not set; relative paths are ignored.",
    "TRISCALE_PRETRAINED": "`0`: train from random weights unless weights are given, as `--from-scratch` does.",
    "TRISCALE_OFFLINE": "`1`: never download weights or data sets; use only the cache.",
    "HF_HUB_OFFLINE": "`1`: the same for weights.",
    "HF_ENDPOINT": "Address of the Hugging Face hub, for mirrors of timm's weights.",
    "TRISCALE_NO_CACHE": "Set to anything: scan every image again instead of using cached facts.",
    "TRISCALE_KEY_PASSWORD": "Password of an encrypted private key of `triscale sign`.",
    "TRISCALE_NATIVE": "`0`: train with PyTorch's own operations instead of the native CPU kernels.",
    "CXX": "Compiler of the native kernels, with options; by default `c++`, `g++` or `clang++`.",
    "OMP_NUM_THREADS": "Number of compute threads; with it, `--threads auto` chooses nothing.",
    "WORLD_SIZE": "Set by torchrun: number of processes.",
    "RANK": "Set by torchrun: number of this process.",
    "LOCAL_RANK": "Set by torchrun: number of this process on this machine; selects the GPU.",
    "LOCAL_WORLD_SIZE": "Set by torchrun: number of processes on this machine; if they share a GPU, they use Gloo.",
    "MASTER_ADDR": "Set by torchrun: address of the first process.",
    "MASTER_PORT": "Set by torchrun: port of the first process.",
    "TORCHELASTIC_RESTART_COUNT": "Set by torchrun: number of restarts after lost processes.",
}
"""Every environment variable that the package reads; the generator fails if the source reads another one."""

TRACKER_ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": "MLflow: a server or a database, such as `sqlite:///mlflow.db` (the default).",
    "MLFLOW_EXPERIMENT_NAME": "MLflow: the experiment, which is created if it does not exist; by default `Default`.",
    "MLFLOW_EXPERIMENT_ID": "MLflow: the experiment by its ID, which has precedence.",
    "MLFLOW_RUN_ID": "MLflow: an existing run to record a new training in.",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "MLflow: retries of a request. Here the default is 2, so that training soon "
    "continues without a lost server.",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "MLflow: seconds until a request is retried. Here the default is 20.",
    "WANDB_MODE": "W&B: `online`, `offline` or `disabled`.",
    "WANDB_PROJECT": "W&B: the project. `WANDB_ENTITY`, `WANDB_API_KEY`, `WANDB_BASE_URL`, `WANDB_RUN_GROUP` and the "
    "other variables of the package are honored too.",
    "WANDB_NAME": "W&B: name of the run; by default that of the `--out` folder.",
    "WANDB_RUN_ID": "W&B: ID of a new run; by default random.",
    "WANDB_DIR": "W&B: where its files are written; by default the `--out` folder.",
    "WANDB_SILENT": "W&B: `true` for no output of its own.",
}
"""Variables of the packages behind ``--log``, read by them or by the package."""

API = {
    "Networks and cost": (
        "get names published scale cost fit_budget Network CustomNetwork Cost Fit Stem Stage Head MBConv FusedMBConv "
        "UniversalBottleneck SqueezeRule Separable Bottleneck Basic Conv BatchNorm Preprocessing"
    ),
    "Scaling laws and budgets": "Law Scale Budget family",
    "Models": "create_model build backbone transforms load_weights Classifier",
    "Training and runs": "fit train evaluate Run CrossValidation",
    "Searches and comparisons": "search_coefficients search_baseline compare",
    "Latency": "measure compare_latency profile",
    "Exceptions": (
        "TriscaleError UserError NetworkError BudgetError RecordError RecipeError DataError RunError JobError "
        "ParityError Interrupted"
    ),
}

RECIPE_INTRODUCTION = (
    "A recipe is everything that determines the result of a training, apart from network, images and seed. Change "
    "a field with `--set field=value`, a nested one with `--set augmentation.erase=0.25`, or in a JSON file for "
    '`--recipe`: `{"base": "small", "epochs": 60}`. [Training](../explanation/training.md#recipes) explains '
    "recipes."
)
RECORDS_INTRODUCTION = (
    "Every JSON file that Triscale writes is a record: frozen data with strict keys. Its first two keys are "
    "`triscale`, the kind, and `schema`, the schema number. A file of another kind or an unknown schema is "
    "refused, with the version that reads it. An unknown key is an error. Files are written atomically."
)
LAWS_INTRODUCTION = (
    "A scaling law turns one number, phi, into multipliers of depth, width and resolution. `--law` of `triscale "
    "scale`, `fit`, `train`, `family` and `compare`, and `law=` in Python, take a name of this page, "
    "`alpha,beta,gamma`, a JSON file, or the folder of a coefficient search. A law of your own is a JSON file "
    "of the kind `law` or `piecewise_law`, see [Records](records.md). No multiplier falls as phi grows; between "
    "the points of a table the logarithms are linear, and beyond its ends the law continues as between the last "
    "two points. Several numbers in a cell are for the stages of the network from first to last; a network with "
    "more or fewer stages interpolates between them. The last column names the published networks; not all of "
    "them are in `triscale list`, and LACS was published for another baseline than EfficientNet-B0.\n\n"
    "[Comparing scaling laws](../explanation/scaling-laws.md) shows what the laws make of three networks at "
    "equal cost. LACS for TPUs publishes B6 with 328 px, fewer than the 332 px of B5; a law never reduces a "
    "dimension, so `lacs-tpu` gives its B6 332 px. EfficientNetV2-M and L have a seventh stage, which no "
    "multiplier adds; `efficientnet-v2` gives their six other stages from those of S. EfficientNet-L2 is on no "
    "law."
)
ROUNDING_INTRODUCTION = (
    "A law says how its multipliers become whole channels, blocks and pixels. `--rounding` and `--multiple` change "
    "that: `--rounding depth=nearest --multiple width=16,resolution=32`."
)
FAILED = (
    "a job failed although the request was valid, a check did not hold (`verify`, `--fail-under`), or none of the "
    "given files could be read as an image"
)
ERRORS_INTRODUCTION = (
    "An error is one message on standard error: what was given, what was expected, and what to do. `--debug` "
    "shows the traceback. In Python every error is a `TriscaleError`:"
)
TRACKERS_INTRODUCTION = (
    "The packages behind [`--log`](../how-to/track-experiments.md) read their own variables. The most useful are:"
)
API_INTRODUCTION = (
    "`import triscale as ts` gives these names. Names, paths and text are accepted wherever a network, a law or a "
    "budget is. `import triscale` does not import torch; the parts that need it load on first use. "
    "`ts.EFFICIENTNET` is the paper's law, `ts.Law(1.2, 1.1, 1.15)`."
)

RUN_FILES = {
    "run.json": "the request: images, network, budget fit, recipe, seed, classes, preprocessing",
    "network.json": "the trained network as data; every command takes it as `--network` or `--baseline`",
    "split.json": "which image is in which split",
    "data.json": "the result of the scan: counts, sizes, files that cannot be read, duplicates",
    "contents.json": "digests of the images, by which they are recognized after they have moved",
    "sbom.cdx.json": "the packages of the environment and the weights that the run learned from, as CycloneDX",
    "history.jsonl": "one line per epoch; epoch 0 is the pretrained weights before the first step",
    "model.safetensors": "the weights that are evaluated",
    "decision.json": "for images with any number of labels: the probability from which each is given",
    "calibration.json": "what was fitted to the validation images: temperature, prediction sets, threshold of unknown "
    "images; predictions and exported files use it",
    "teacher.safetensors": "with `--teacher` and kept logits: those of every training image",
    "metrics.json, predictions.csv": "the metrics on the test split, and one row per test image",
    "robustness.json": "with `triscale robustness`: the accuracy on corrupted test images",
    "model.onnx, export.json, exports.json": "the exported file, and what its check found",
    "latency.json": "measurements",
    "deploy.json, deployed/": "the comparison of `triscale deploy`, and the selected file",
    "explain/": "class activation maps, with `maps.json`",
    "README.md": "with `triscale card`: the [model card](../how-to/provenance.md)",
    "model.sig": "with `triscale sign`: the signature",
    "report.html": "the report",
    "tensorboard/, mlflow.json, wandb.json, wandb/": "with `--log`: event files, the tracker's run, offline data",
    "manifest.json": "the digests of all files, written last: it marks the run as finished",
    "checkpoints/": "the newest states of the training, as safetensors files with manifests",
}
"""What a run holds."""
