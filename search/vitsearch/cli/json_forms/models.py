"""The forms of models: a point, one trial in full, two compared, the effects of knobs."""

from __future__ import annotations

from vitsearch.cli.json_forms.schemas import (
    ANYTHING,
    FLAG,
    NUMBER,
    TEXT,
    WHOLE,
    Schema,
    and_more,
    by_name,
    fields,
    maybe,
    several,
)

PAIR: Schema = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
PLAN: Schema = {
    "type": "object",
    "required": ["backbone", "weights", "resolution", "compression", "distillation", "recipe", "deployments"],
}
METRICS = fields(
    values=(by_name(maybe(NUMBER)), "each metric; null where it was not measured"),
    intervals=(by_name(PAIR), "lower and upper end of the 95 % interval, of metrics that have one"),
    reasons=(by_name(TEXT), "why a metric was not measured"),
    notes=(by_name(TEXT), "what to know before a value is believed"),
)
CLASSIFIED = fields(
    correct=(WHOLE, "images that are classified correctly"),
    n=(WHOLE, "images that were classified"),
    interval=(PAIR, "95 % interval of the share"),
)
ON_DEVICE = and_more(
    CLASSIFIED,
    agrees=(maybe(FLAG), "whether chance explains the difference to the accuracy of the worker"),
)
POINT = and_more(
    METRICS,
    trial=(maybe(WHOLE), "number of the trial; null for the baseline"),
    plan=(PLAN, "the configuration of the model, as 'vitsearch plan' reads it"),
    feasible=(FLAG, "whether it is within the limits"),
    breaks=(several(TEXT), "the limits that it breaks, such as accuracy>=0.9"),
    flags=(several(TEXT), "flags that all its measurements have, such as throttled"),
    basis=(maybe(TEXT), "raw: times as they were read; paired: by reference models that ran beside it"),
    shares=(by_name(NUMBER), "share of its MACs in each precision"),
    warnings=(several(TEXT), "classes that it misses; what is known against its precision or combination"),
    on_device=(maybe(ON_DEVICE), "its accuracy on the device itself"),
    on_test=(maybe(CLASSIFIED), "its accuracy on the test images; null before it was shipped"),
    sha256=(maybe(TEXT), "digest of its exported file; null where there is none"),
    file=(maybe(TEXT), "path of that file; null where it is not on this machine"),
)
FRONT_POINT = and_more(
    POINT,
    on_front=(FLAG, "whether no feasible model dominates it"),
    is_knee=(FLAG, "whether it is the knee"),
    tied=(by_name(several(TEXT)), "objective -> neighbours on the front from which it does not differ significantly"),
)
COUNTED = fields(
    n=(WHOLE, "images"),
    correct=(WHOLE, "of them classified correctly"),
    accuracy_balanced=(NUMBER, "mean of the recalls of the classes"),
    recall_min=(NUMBER, "recall of the worst class"),
    f1_macro=(NUMBER, "mean of the F1 scores of the classes"),
)
BUNDLE = and_more(
    METRICS,
    folder=(TEXT, "the bundle"),
    zip=(TEXT, "the same as one file"),
    signed=(FLAG, "whether SHA256SUMS.sig is in it (--sign)"),
    study=(TEXT, "name of the study"),
    trial=(maybe(WHOLE), "number of the trial; null for the baseline"),
    artifact_key=(TEXT, "its key in the ledger"),
    accuracy=(
        fields(test=(maybe(COUNTED), "null where the data has no test images"), validation=(COUNTED, "")),
        "accuracy of the shipped file",
    ),
)
VERIFIED = fields(
    bundle=(TEXT, "name of the bundle"),
    passed=(FLAG, "whether no check failed, and more than checksums was judged"),
    verdict=({"enum": ["passed", "failed", "only checksums judged"]}, ""),
    checks=(
        several(
            fields(
                name=(TEXT, "what was checked"),
                outcome=({"enum": ["passed", "failed", "not judged"]}, ""),
                message=(TEXT, "what was found, and what was shipped"),
            )
        ),
        "check by check",
    ),
    restrictions=(
        several(
            fields(
                name=(TEXT, "user, files or network"),
                holds=(FLAG, "whether the model was kept from it"),
                detail=(TEXT, "by what, or why not"),
            )
        ),
        "what the model was kept from while it ran; empty where it did not run",
    ),
)
MISS = fields(
    limit=(TEXT, "the key of the space file"),
    bound=(TEXT, "the bound that follows from it"),
    seen=(NUMBER, "the value of the model"),
    by=(NUMBER, "how far it is off, as a share of the bound"),
    now=(NUMBER, "the value of the key"),
    loosened=(NUMBER, "the value of the key with which the model passes"),
)
NEAR = fields(
    trial=(WHOLE, "number of the trial"),
    plan=(PLAN, "its plan"),
    values=(by_name(maybe(NUMBER)), "its metrics"),
    accuracy_is_predicted=(FLAG, "whether its accuracy is predicted, because it was not trained"),
    misses=(several(MISS), "the limits that it breaks"),
    unjudged=(several(TEXT), "metrics with a limit whose value is not known"),
)
NEAREST = fields(
    models=(several(NEAR), "the nearest models, nearest first"),
    single=(several(NEAR), "for each limit the model that passes with the least loosening of it alone"),
)
KEYS = fields(
    weights_key=(TEXT, "of the training"),
    graph_key=(TEXT, "of the measurements"),
    artifact_key=(maybe(TEXT), "of the exported file"),
    device_id=(TEXT, "the device that measured it"),
)
LIMIT = fields(
    name=(TEXT, "the bound"),
    value=(maybe(NUMBER), "the value of the model"),
    is_met=(maybe(FLAG), "whether it is met; null where the value is not known"),
)
PROXY = fields(
    accuracy=(NUMBER, "of the refitted model without training, on the holdout"),
    kl=(NUMBER, "divergence from the unpruned model, in nats"),
    lost=(NUMBER, "accuracy lost against the unpruned model"),
    predicted_accuracy=(NUMBER, "predicted after the fine-tune"),
    deviation=(NUMBER, "one standard deviation of the prediction"),
)
PREPROCESSING = fields(
    mean=(several(NUMBER), "of pixels in [0, 1], for each channel"),
    std=(several(NUMBER), "of pixels in [0, 1], for each channel"),
    interpolation=(TEXT, "bilinear or bicubic"),
    crop_share=(NUMBER, "share of each side of the image that the model sees"),
)
FILE = fields(
    sha256=(TEXT, "digest; of a model of several files, that of their digests"),
    path=(maybe(TEXT), "the file that the runtime opens; null where it is not on this machine"),
    store=(TEXT, "the store that has it: a folder or a URL"),
    size_bytes=(WHOLE, "of all its files"),
    artifact_key=(TEXT, "its key in the ledger"),
    parity=(maybe(NUMBER), "largest difference of its logits to torch, over the largest logit"),
    preprocessing=(PREPROCESSING, "how it reads an image"),
    options=(ANYTHING, "options of the runtime that it needs"),
)
STAGE = fields(
    stage=(TEXT, "name of the stage"),
    detail=(TEXT, "rung of a training, protocol of a measurement"),
    made_at=(TEXT, "when its result was written (ISO 8601)"),
    wall_seconds=(maybe(NUMBER), "null where the cost is not known"),
    cpu_seconds=(maybe(NUMBER), "of the worker or the device"),
    ran_on=(maybe(TEXT), "worker HOST/PID or device NAME@HOST"),
    versions=(by_name(TEXT), "versions of the libraries"),
)
CLASS = fields(
    name=(TEXT, "the class"),
    n=(WHOLE, "validation images of it"),
    correct=(WHOLE, "of them classified correctly"),
    low=(NUMBER, "lower end of the 95 % interval of the recall"),
    high=(NUMBER, "upper end"),
    predicted=(WHOLE, "validation images of any class that are taken for it"),
    confused_with=(maybe(TEXT), "the class that most of the others are taken for"),
    confused=(WHOLE, "how many are"),
    accuracy=(NUMBER, "recall: correct / n"),
    precision=(maybe(NUMBER), "correct / predicted; null where nothing is taken for it"),
    f1=(NUMBER, "harmonic mean of recall and precision"),
)
DETAIL = and_more(
    POINT,
    study=(TEXT, "name of the study"),
    emulated=(FLAG, "whether its times are those of an emulated device"),
    shown_device=(TEXT, "the device that measured it, with its host, such as local@HOST"),
    place=(TEXT, "where it stands in its study, in words"),
    outcome=(TEXT, "confirmed, infeasible, dominated, not_promoted, ..."),
    duplicate_of=(maybe(WHOLE), "the trial with the same model"),
    reason=(TEXT, "why the trial ended"),
    failure=(maybe(by_name(TEXT)), "stage, kind and message of a failure"),
    knobs=(by_name({"type": ["string", "number", "null"]}), "knob -> value"),
    keys=(maybe(KEYS), "of its results"),
    limits=(several(LIMIT), "each limit, judged by what is known today"),
    rung=(NUMBER, "epochs that it was trained for"),
    proxy=(maybe(PROXY), "its proxy score"),
    file=(maybe(FILE), "the exported model"),
    stages=(several(STAGE), "the stages that made its results"),
    measurements=(several(ANYTHING), "as the agent reports them (evaluators/README.md), with protocol and repeat"),
    classes=(maybe(several(CLASS)), "with --per-class: what it finds of each class"),
)
COMPARED = fields(
    name=(TEXT, "the metric"),
    first=(maybe(NUMBER), "value of the first model"),
    second=(maybe(NUMBER), "value of the second"),
    change=(maybe(NUMBER), "second / first; of accuracies second - first"),
    low=(maybe(NUMBER), "lower end of its 95 % interval"),
    high=(maybe(NUMBER), "upper end"),
    verdict=(
        {"enum": ["first", "second", "not significant", "equal", "no interval", "not measured"]},
        "which model is better, or why that is not known",
    ),
)
PAIRED = fields(
    n=(WHOLE, "images"),
    only_first=(WHOLE, "that the first model alone classifies correctly"),
    only_second=(WHOLE, "that the second alone does"),
    p=(NUMBER, "of McNemar's exact two-sided test"),
)
COMPARISON = fields(
    study=(TEXT, "name of the study"),
    emulated=(FLAG, "whether its times are those of an emulated device"),
    first=(POINT, "the first model"),
    second=(POINT, "the second model"),
    metrics=(several(COMPARED), "metric by metric"),
    knobs=(by_name(several({"type": ["string", "number", "null"]})), "knobs that differ -> both values"),
    images=(maybe(WHOLE), "validation images of both accuracies"),
    paired=(maybe(PAIRED), "with --paired: the answers of both files"),
)
EFFECT = fields(
    knob=(TEXT, "the knob"),
    start=(TEXT, "from this value"),
    to=(TEXT, "to this one"),
    estimate=(NUMBER, "of a cost as a share (-0.1: 10 % less), of the accuracy as a difference"),
    low=(NUMBER, "lower end of the 95 % interval"),
    high=(NUMBER, "upper end"),
    models=(WHOLE, "models with the value 'to'"),
    verdict=({"enum": ["better", "worse", "nothing", "open"]}, "nothing: a gain is certainly small"),
)
BACKBONE_EFFECTS = fields(
    backbone=(TEXT, "the backbone"),
    models=(WHOLE, "its models"),
    r_squared=(maybe(NUMBER), "share of the variance that these effects explain"),
    about=(TEXT, "how many models there are, and how far to believe these effects, in words"),
    effects=(several(EFFECT), "empty where there are too few models"),
)
OBJECTIVE_EFFECTS = fields(
    objective=(TEXT, "the metric"),
    measured=(WHOLE, "models with a measured value"),
    predicted=(WHOLE, "models with a predicted accuracy"),
    explained=(maybe(NUMBER), "share of the variance that all knobs explain together"),
    importances=(by_name(NUMBER), "knob -> share of the variance that it explains alone"),
    backbones=(several(BACKBONE_EFFECTS), "backbone by backbone"),
)
PREDICTION = fields(
    trial=(WHOLE, "number of the trial"),
    predicted=(NUMBER, "accuracy predicted without training"),
    deviation=(NUMBER, "one standard deviation"),
    measured=(NUMBER, "accuracy of the exported file"),
    low=(NUMBER, "lower end of its 95 % interval"),
    high=(NUMBER, "upper end"),
    was_trained=(FLAG, "whether it was trained in between"),
    error=(NUMBER, "measured - predicted"),
    interval=(
        PAIR,
        "where a measured accuracy lies with 95 % probability, by the errors of the prediction and the images",
    ),
    holds=(FLAG, "whether the measured one lies within it"),
)
FIT = fields(
    metric=(TEXT, "the metric"),
    graphs=(WHOLE, "graphs that were measured, each predicted from the others"),
    median_error=(NUMBER, "median of the errors, relative to the measured values"),
    spearman=(maybe(NUMBER), "rank correlation; null where all values are equal"),
    covered=(NUMBER, "share of the measured values within their 95 % intervals"),
)
NOT_MEASURED = fields(
    trial=(WHOLE, "number of the trial"),
    plan=(PLAN, "its plan on this device"),
    values=(by_name(NUMBER), "predicted metrics"),
    intervals=(by_name(PAIR), "their 95 % intervals"),
    chance=(NUMBER, "chance that it is on the front"),
)
RETARGETED = fields(
    measured=(WHOLE, "models that were measured on this device"),
    fits=(several(FIT), "how well each cost is predicted"),
    predictions=(several(NOT_MEASURED), "models that were not measured, the likeliest on the front first"),
    left_out=(
        several(fields(trial=(WHOLE, "number of the trial"), reason=(TEXT, "why it cannot run here"))),
        "models that are not measured",
    ),
    front=(
        fields(
            study=(TEXT, "name of the study"),
            device=(TEXT, "where the models were measured, as front --device takes it"),
            shown_device=(TEXT, "the same with its host, such as nano@HOST"),
            emulated=(FLAG, "whether its times are those of an emulated device"),
            class_warnings=(several(TEXT), "classes that the baseline or the front misses, in words"),
            baseline=(maybe(POINT), "the unpruned model that relative limits refer to, on this device"),
            points=(several(POINT), "the models of the front"),
        ),
        "the front on this device",
    ),
)
