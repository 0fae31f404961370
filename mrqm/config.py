"""Everything that can be set, in one validated place: YAML files, dotted overrides and sweeps all end here.

    config = load_config("configs/demo.yaml", ["optim.lr=1e-4", "model.refinement.blocks=2"])

Unknown keys, wrong types and out-of-range values raise a `ConfigError` that names the dotted key, the value and what
is allowed. Modules take parts and plain numbers; only `build_*` functions know a `Config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names every key at fault."""


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )


# ---------------------------------------------------------------------------------------------------- model


class BackboneConfig(Section):
    """The convolutional trunk that gives C2..C5."""

    name: str = "resnet50"
    """Any timm model with `features_only` and strides 4, 8, 16 and 32."""
    weights: str = "hub"
    """`none`, `hub` (timm downloads them once) or the path of a .safetensors file in timm's key names."""
    frozen_batch_norm: bool = True
    """Keep the statistics and affine parameters of every BatchNorm as loaded; wrong without pretrained weights."""
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = 0
    """Keep as loaded all that C2 (1), C3 (2), C4 (3) or C5 (4) is computed with; DETRs on ResNets keep 1."""

    @model_validator(mode="after")
    def _frozen_parts_come_from_somewhere(self) -> Self:
        if self.frozen_batch_norm and self.weights == "none":
            raise ValueError(
                "frozen_batch_norm=true needs pretrained statistics but weights is none; "
                "set model.backbone.frozen_batch_norm=false or give model.backbone.weights"
            )
        if self.frozen_stages and not self.frozen_batch_norm:
            raise ValueError(
                f"frozen_stages={self.frozen_stages} needs frozen statistics too; "
                "set model.backbone.frozen_batch_norm=true or model.backbone.frozen_stages=0"
            )
        return self


class BiFPNConfig(Section):
    """The bi-directional pyramid between backbone and encoder."""

    repeats: CountOrZero = 1
    """How many top-down + bottom-up passes; 0 turns it off and leaves the lateral projections."""


class RefinementConfig(Section):
    """The iteration of the Scale-Aware Encoder (Fu et al., 2024, eq. 1-7), written (high_level_updates+1)x blocks."""

    blocks: Count = 3
    """How many encoder blocks."""
    high_level_updates: Count = 2
    """Updates of F3..F5 in each block before its one update of F2."""


class DenoisingConfig(Section):
    """Contrastive denoising queries (Zhang et al., 2023), training only."""

    enabled: bool = True
    """Whether noised ground truth is decoded beside the main queries."""
    max_queries: Annotated[int, Field(ge=2)] = 200
    """Most denoising queries per image, positives and negatives together, however many objects it holds."""
    label_noise: Fraction = 0.5
    """Share of labels considered for a flip; half of them are flipped, as in DINO."""
    box_noise: NonNegative = 1.0
    """Shift of box corners in half widths and heights; negatives are shifted between one and two times this."""


class IoUAwareHeadConfig(Section):
    """The training-only branch of dense predictions and mined queries (Fu et al., 2024, eq. 8-10)."""

    enabled: bool = True
    """Whether anchors are mined into positive queries for the shared decoder."""


class ModelConfig(Section):
    """The detector."""

    backbone: BackboneConfig = BackboneConfig()
    hidden_dim: Count = 256
    """Channels of every level, token and query."""
    num_heads: Count = 8
    """Attention heads; must divide hidden_dim."""
    num_points: Count = 4
    """Sampling points per head and level of deformable attention."""
    ffn_dim: Count = 2048
    """Hidden width of the feed-forward blocks."""
    bifpn: BiFPNConfig = BiFPNConfig()
    encoder: Literal["sae", "full"] = "sae"
    """`sae`: Scale-Aware Encoder; `full`: every level is a query in every layer (Deformable-DETR), for comparison."""
    refinement: RefinementConfig = RefinementConfig()
    full_encoder_layers: Count = 6
    """Layers of the `full` encoder."""
    num_queries: Count = 900
    """Queries of the main branch: the most objects one image can yield."""
    proposal_scale: Positive = 4.0
    """Side of the encoder's square proposals in strides of their level."""
    distinct_iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """Proposals that overlap a better one by more than this become queries last; null ignores overlap, as in DINO."""
    decoder_layers: Count = 6
    """Decoder layers, shared by the main, denoising and mined queries."""
    denoising: DenoisingConfig = DenoisingConfig()
    iou_aware_head: IoUAwareHeadConfig = IoUAwareHeadConfig()
    channels_last: bool = True
    """Memory format of the backbone; faster convolutions on most CPUs and GPUs."""
    compile: bool = False
    """Whether torch.compile compiles backbone, encoder and decoder."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_dim % self.num_heads or self.hidden_dim % 4:
            raise ValueError(
                f"hidden_dim={self.hidden_dim} must be a multiple of num_heads={self.num_heads} and of 4; "
                "change model.hidden_dim or model.num_heads"
            )
        return self


# ----------------------------------------------------------------------------------------------------- loss


class CostConfig(Section):
    """Costs of the Hungarian matching."""

    classification: NonNegative = 2.0
    """Weight of the focal classification cost."""
    bbox: NonNegative = 5.0
    """Weight of the L1 distance of normalised boxes."""
    giou: NonNegative = 2.0
    """Weight of the negative generalised IoU."""


class WeightConfig(Section):
    """Weights of the losses, the same on every layer and branch."""

    classification: NonNegative = 1.0
    """Weight of the classification loss."""
    bbox: NonNegative = 5.0
    """Weight of the L1 loss of normalised boxes."""
    giou: NonNegative = 2.0
    """Weight of the generalised IoU loss."""


class MiningConfig(Section):
    """Which anchors are positive for an object (Fu et al., 2024, eq. 8)."""

    threshold: Literal["dynamic", "fixed"] = "dynamic"
    """`dynamic`: T_I grows with the object's size (eq. 8); `fixed`: base_iou for all."""
    base_iou: Annotated[float, Field(gt=0, lt=1)] = 0.55
    """T_b, the least IoU of a positive."""
    growth: NonNegative = 0.15
    """k, how far the threshold rises above base_iou."""
    exponent: NonNegative = 0.2
    """p, how the threshold grows with size."""
    min_area: Positive = 144.0
    """A_s, area of the smallest instances in px² of the network input."""
    candidates: Literal["refined", "anchors"] = "refined"
    """Whose IoU with the object counts: the head's `refined` boxes or the static `anchors`."""
    anchor_scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (2.0, 4.0)
    """Anchor sides in strides of their level."""
    anchor_ratios: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)
    """Anchor heights divided by widths."""


class OneToManyConfig(Section):
    """How many mined positives supervise the model."""

    ratio: Count = 6
    """Most positives per object, highest IoU first."""
    min_positives: Count = 1
    """Best anchors that an object gets when too few pass the threshold."""
    max_queries: Count = 300
    """Most mined queries per image, balanced over its objects."""
    loss_weight: NonNegative = 1.0
    """Weight of the auxiliary branch: dense predictions and mined queries."""

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        if self.min_positives > self.ratio:
            raise ValueError(
                f"min_positives={self.min_positives} is above ratio={self.ratio}; "
                "raise loss.one_to_many.ratio or lower loss.one_to_many.min_positives"
            )
        return self


class LossConfig(Section):
    """What the model is judged by."""

    classification: Literal["focal", "quality_focal"] = "quality_focal"
    """`focal`: targets are 0 and 1; `quality_focal`: the target of a match is its IoU."""
    costs: CostConfig = CostConfig()
    weights: WeightConfig = WeightConfig()
    mining: MiningConfig = MiningConfig()
    one_to_many: OneToManyConfig = OneToManyConfig()
    encoder_supervision: Literal["one_to_one", "mined"] = "one_to_one"
    """How the encoder's proposals learn: `one_to_one` as in the paper; `mined`: every token, by the mined anchors."""


# ----------------------------------------------------------------------------------------------------- data


DataFormat: TypeAlias = Literal["visdrone", "coco", "soda-d", "yolo"]


class TileConfig(Section):
    """Windows cut from large images while they are read."""

    size: Count = 800
    """Side of the square window in px of the scaled image."""
    overlap: CountOrZero = 150
    """Px shared by neighbouring windows; the last of a row or column shifts back to the border."""
    min_visible: Fraction = 0.4
    """Objects of which at most this share is visible in a window become ignored regions there."""
    keep_empty: Fraction = 0.0
    """Share of training windows without objects that is kept; evaluation keeps all."""
    blackout_ignored: bool = False
    """Paint ignored regions black except where an object lies over them, as SODA-D does."""

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap={self.overlap} must be below size={self.size}; change data.tile.overlap")
        return self


class AugmentConfig(Section):
    """What training images go through; the defaults are the paper's: a random flip only."""

    horizontal_flip: Fraction = 0.5
    """Probability of a left-right flip."""
    scale_jitter: Annotated[tuple[Positive, Positive], Field(min_length=2, max_length=2)] = (1.0, 1.0)
    """Range of a random zoom, log-uniform."""
    random_crop: bool = False
    """Whether training windows sit at random positions instead of the tiles' grid."""
    color_jitter: Fraction = 0.0
    """Strength of random brightness, contrast and saturation."""

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.scale_jitter[0] > self.scale_jitter[1]:
            raise ValueError(f"scale_jitter={list(self.scale_jitter)} must be [least, most]")
        return self


class DataConfig(Section):
    """Where images and annotations are and how they become tensors."""

    format: DataFormat = "visdrone"
    """`visdrone` images + annotations/*.txt; `coco` images + a json; `soda-d` raw; `yolo` images + labels/*.txt."""
    root: Path = Path("data")
    """Folder that holds the train and val folders."""
    train: str = "VisDrone2019-DET-train"
    """Training folder under root."""
    val: str = "VisDrone2019-DET-val"
    """Validation folder under root."""
    classes: tuple[str, ...] | None = None
    """Class names in label order; null takes the annotation format's own."""
    scale: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Images are resized by this factor."""
    max_side: Count | None = None
    """Images whose longer side is above this after `scale` are shrunk to it; not used with tiles."""
    tile: TileConfig | None = None
    """Cut windows out of the scaled images; null feeds whole images."""
    augment: AugmentConfig = AugmentConfig()
    loader_workers: CountOrZero = 2
    """Processes per training worker that read images; 0 reads in the training process."""
    cache_mb: CountOrZero = 512
    """Decoded images kept in memory per reading process."""
    max_unreadable: CountOrZero = 0
    """Images that may fail to decode, each named and skipped, before the run stops."""

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if self.classes is not None and len(set(self.classes)) != max(len(self.classes), 1):
            raise ValueError(f"classes={list(self.classes)} must be different names, at least one")
        return self

    @model_validator(mode="after")
    def _crops_have_a_size(self) -> Self:
        if self.augment.random_crop and self.tile is None:
            raise ValueError("augment.random_crop=true needs data.tile, whose size the crops have")
        return self


# ----------------------------------------------------------------------------------- optim, train and around


class OptimConfig(Section):
    """AdamW and its schedule."""

    lr: Positive = 2e-4
    """Peak learning rate."""
    backbone_lr_factor: NonNegative = 0.1
    """Learning rate of the backbone as a share of lr; 0 freezes it."""
    weight_decay: NonNegative = 1e-4
    """Decoupled weight decay; none on norms, biases and embeddings."""
    clip_norm: Positive = 0.1
    """Gradients are clipped to this norm."""
    schedule: Literal["step", "cosine"] = "step"
    """`step`: divided by 10 at `step_at`; `cosine`: down to lr/100 at the end."""
    step_at: Fraction = 11 / 12
    """Share of the training after which the step schedule drops."""
    warmup_steps: CountOrZero = 500
    """Optimizer steps of linear warm-up."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9997
    """Decay of the exponential moving average of the weights that is evaluated and kept; 0 keeps none."""


class TrainConfig(Section):
    """How long and in what portions."""

    epochs: Count = 12
    """Passes over the training data."""
    max_minutes: Positive | None = None
    """Stop after this much training; the schedule then ends at that moment instead of at the last epoch."""
    batch_size: Count = 2
    """Images per optimizer step over all workers and accumulated parts together."""
    accumulate: Count = 1
    """Parts in which a worker computes its share of a step, to save memory."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16`: autocast on CPU and GPU."""
    seed: CountOrZero = 0
    """Seed of initialisation, sampling, augmentation and noise."""
    evaluate_every: Count = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    resume: str = "auto"
    """`auto` continues the run of this name, `never` refuses to; a checkpoint's folder is gone on from."""
    on_divergence: Literal["stop", "skip"] = "stop"
    """A step whose loss or gradient is not finite is kept (`mrqm replay`); the run stops, or goes on without it."""
    max_skipped: CountOrZero = 10
    """Steps of a run that `on_divergence=skip` may leave out."""
    checkpoint_minutes: Positive | None = 15.0
    """Minutes of training between checkpoints within an epoch, beside those after each; null: none."""


class EvaluationConfig(Section):
    """What validation counts."""

    max_detections: Count = 500
    """Detections per image that are kept and scored."""
    nms_iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """Class-wise suppression of detections that overlap more, for short trainings whose queries repeat; null: none."""
    area_bins: dict[str, tuple[NonNegative, Annotated[float, Field(gt=0)]]] = {
        "small": (0, 32**2),
        "medium": (32**2, 96**2),
        "large": (96**2, 1e10),
    }
    """Names and area ranges in px² of the original image; each becomes a metric AP_name."""
    batch_size: Count = 8
    """Images, or windows of images, per worker and step of evaluation and prediction."""
    view: Literal["sliced", "full"] = "sliced"
    """How a detector looks at an image: `sliced`: through the windows of data.tile, if set; `full`: in one piece."""
    merge: Literal["nms", "wbf", "soft_nms"] = "nms"
    """What becomes of detections of several windows: suppression, weighted boxes fusion or soft suppression."""
    merge_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Detections of one class from several windows that overlap more are one object."""

    @model_validator(mode="after")
    def _bins_are_ordered(self) -> Self:
        for name, (least, most) in self.area_bins.items():
            if least >= most:
                raise ValueError(f"evaluation.area_bins.{name}={[least, most]} must be [least, most]")
        return self


class ScalingConfig(Section):
    """What the cluster gives; mirrors ray.train.ScalingConfig."""

    num_workers: Count = 1
    """Training processes."""
    use_gpu: bool = False
    """One GPU for each worker."""
    cpus_per_worker: Count = 1
    """CPU cores reserved for each worker; also its number of threads."""


class TrackingConfig(Section):
    """Where runs, metrics, pictures and models go."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking URI; the environment's MLFLOW_TRACKING_URI wins over this default."""
    experiment: str = "mrqm"
    """MLflow experiment."""
    register_as: str | None = "mrqm"
    """Name of the registered model; null registers none."""


class Config(Section):
    """A complete, valid configuration of a run."""

    name: str = Field(default="mrqm", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; the same name continues the same run."""
    output: Path = Path("runs")
    """Folder under which runs keep their checkpoints and pictures."""
    keep_checkpoints: Count = 2
    """Checkpoints kept: the best ones, and always the latest."""
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    scaling: ScalingConfig = ScalingConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        parts = self.scaling.num_workers * self.train.accumulate
        if self.train.batch_size % parts:
            raise ValueError(
                f"train.batch_size={self.train.batch_size} must be a multiple of scaling.num_workers × train.accumulate"
                f" = {self.scaling.num_workers} × {self.train.accumulate} = {parts}"
            )
        return self

    @model_validator(mode="after")
    def _mined_supervision_has_miner(self) -> Self:
        if self.loss.encoder_supervision == "mined" and not self.model.iou_aware_head.enabled:
            raise ValueError(
                "loss.encoder_supervision=mined needs the mined anchors of the IoU-aware head; "
                "set model.iou_aware_head.enabled=true or loss.encoder_supervision=one_to_one"
            )
        return self

    @property
    def micro_batch_size(self) -> int:
        """Images in one forward pass of one worker."""
        return self.train.batch_size // (self.scaling.num_workers * self.train.accumulate)

    def to_yaml(self) -> str:
        """The resolved configuration, every key spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, apply `key.path=value` overrides, validate the whole once.

    Raises:
        ConfigError: the file is missing or not YAML, an override is malformed, or a value is not allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as `model:`, found {type(values).__name__}")
    return make_config(values, overrides, source=str(path))


def make_config(values: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "configuration") -> Config:
    """Validate nested values with overrides applied; see `load_config`."""
    merged = _copy_sections(values)
    for override in overrides:
        _apply_override(merged, override)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_describe(error, source)) from error


def _copy_sections(values: Any) -> Any:
    return {key: _copy_sections(value) for key, value in values.items()} if isinstance(values, Mapping) else values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}: expected key.path=value, for example optim.lr=1e-4")
    *sections, leaf = key.split(".")
    for section in sections:
        child = values.setdefault(section, {})
        if child is None:  # a section that the file switches off, such as `tile: null`
            child = values[section] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {section} is a value, not a section")
        values = child
    try:
        values[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from error


def _describe(error: ValidationError, source: str) -> str:
    """One line per fault: dotted key, what is allowed, what was given."""
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = f"unknown key; {_known_keys(fault['loc'][:-1])}"
        elif fault["type"] != "value_error":
            message = f"{message}; got {fault['input']!r}"
        lines.append(f"{key}: {message}" if key else message)
    return "\n".join([f"{source} is not usable:", *(f"  {line}" for line in lines)])


def _known_keys(location: tuple[int | str, ...]) -> str:
    section: Any = Config
    for part in location:
        field = section.model_fields.get(part)
        section = _section_type(field.annotation) if field else None
        if section is None:
            return "remove it"
    return "known here: " + ", ".join(section.model_fields)


def _section_type(annotation: Any) -> type[Section] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)
