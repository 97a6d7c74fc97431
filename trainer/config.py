"""What a user may choose about training, with the defaults that did best on MovieLens-100k.

Everything about the data (features, negatives, history length) is the dataset's own and is not repeated here. Unknown
keys are errors; the resolved configuration is written beside the model as config.yaml.
"""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from schemas.configuration import Strict
from trainer.loss_config import Loss, SoftmaxCrossEntropy

Encoder = Literal["mean", "weighted", "gru", "attention"]
BestBy = Literal["recall", "recall@10", "recall@50", "recall@100", "ndcg@10", "mrr"]

ENCODER_DEFAULTS: dict[Encoder, dict[str, Any]] = {
    "mean": {"hidden": [64]},
    "weighted": {"hidden": [64], "heads": 2},
    "gru": {"hidden": [], "dropout": 0.2},
    "attention": {"hidden": [], "heads": 2, "blocks": 2, "dropout": 0.2},
}

POOLED = ("mean", "weighted")  # encoders that have no dropout of their own


class UserTower(Strict):
    """User features and what an encoder makes of the history, through a linear map and, beside it, hidden layers.

    Options left out, or null, take what suits the encoder:

        encoder     hidden   heads   blocks   dropout
        mean        [64]                      0.2        the mean of the history
        weighted    [64]     2                0.2        and `heads` learned position-weighted means
        gru         []                        0.2        a recurrent network from the oldest item on (GRU4Rec)
        attention   []       2       2        0.2        causal self-attention (SASRec), relative positions
    """

    encoder: Encoder = "weighted"
    hidden: list[int] | None = Field(None, validate_default=True, description="units of the hidden layers; []: none")
    heads: int | None = Field(
        None,
        validate_default=True,
        ge=0,
        le=64,
        description="weighted: means; attention: heads, dividing the dimension",
    )
    blocks: int | None = Field(None, validate_default=True, ge=1, le=64, description="attention: layers of it")
    residual: bool = Field(True, description="a linear map goes past the hidden layers to the output")
    dropout: float | None = Field(
        None, validate_default=True, ge=0, lt=1, description="in gru and attention, and before each hidden layer"
    )
    history_length: int | None = Field(
        None, ge=1, description="most recent items used; null uses all that a record holds"
    )

    @field_validator("hidden", "heads", "blocks", "dropout", mode="before")
    @classmethod
    def _default(cls, value: Any, info: ValidationInfo) -> Any:
        """What is left out becomes the encoder's default, so that config.yaml shows what was trained."""
        if value is not None or "encoder" not in info.data:
            return value
        if info.field_name == "dropout" and info.data["encoder"] in POOLED:
            bare = info.data.get("residual") and not info.data.get("hidden")
            return 0.0 if bare else 0.2
        return ENCODER_DEFAULTS[info.data["encoder"]].get(str(info.field_name))

    @model_validator(mode="after")
    def _acting(self) -> Self:
        """Refuses what would be ignored."""
        if self.heads is not None and self.encoder not in ("weighted", "attention"):
            raise ValueError(f"heads are of encoder weighted or attention, not {self.encoder}; leave them out")
        if self.blocks is not None and self.encoder != "attention":
            raise ValueError(f"blocks are of encoder attention, not {self.encoder}; leave them out")
        if self.encoder == "attention" and not self.heads:
            raise ValueError("encoder attention needs heads of 1 or more")
        if self.dropout and not self.hidden and self.residual and self.encoder in POOLED:
            raise ValueError(
                f"dropout acts before hidden layers where the encoder is {self.encoder}; add one, or set 0"
            )
        return self


class ItemTower(Strict):
    """What an item is scored by.

    tower    all of its attributes: the sum of their embeddings, through hidden layers if there are any
    matrix   only which item it is: a free vector and a bias for each of the catalogue, as tf.nn.sampled_softmax_loss
             has them. Vectors are not of length 1, there is no temperature, and no vector for items not trained on.
    """

    kind: Literal["tower", "matrix"] = "tower"
    hidden: list[int] = Field([], description="units of the hidden layers; none: the sum is the output")
    dropout: float = Field(0.0, ge=0, lt=1, description="before each hidden layer")
    id_dropout: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability, a step and item, that training sees the id as unknown; for cold items",
    )
    id: str | None = Field(
        None, description="the feature that id_dropout drops; null: the vocabulary of scalars with the most values"
    )

    @model_validator(mode="after")
    def _acting(self) -> Self:
        if self.kind == "matrix":
            given = [name for name in ("hidden", "dropout", "id_dropout", "id") if getattr(self, name)]
            if given:
                raise ValueError(f"kind matrix has no {', no '.join(given)}; leave out what is kind tower's")
        if self.dropout and not self.hidden:
            raise ValueError("dropout acts before hidden layers; give hidden, or set dropout 0")
        if self.id is not None and not self.id_dropout:
            raise ValueError("id names the feature that id_dropout drops; set id_dropout, or leave id out")
        return self


class Model(Strict):
    """Both towers end in unit vectors of `dimension` numbers; a logit is their dot product / temperature.

    Where item.kind is matrix the vectors are as long as they come, one number more for the bias, and no temperature.
    """

    dimension: int = Field(32, ge=1, le=4096)
    user: UserTower = UserTower()
    item: ItemTower = ItemTower()
    temperature: float | None = Field(
        None, validate_default=True, gt=0, description="the first one if it is learned; null: 0.1, none for a matrix"
    )
    learn_temperature: bool = False

    @field_validator("temperature", mode="before")
    @classmethod
    def _default(cls, value: Any, info: ValidationInfo) -> Any:
        tower = "item" in info.data and info.data["item"].kind == "tower"
        return 0.1 if value is None and tower else value

    @model_validator(mode="after")
    def _acting(self) -> Self:
        if self.item.kind == "matrix" and (self.temperature is not None or self.learn_temperature):
            raise ValueError(
                "temperature and learn_temperature are of unit vectors; item.kind matrix has none: leave them out"
            )
        if self.user.encoder == "attention" and self.dimension % (self.user.heads or 1):
            raise ValueError(f"dimension {self.dimension} must be a multiple of user.heads, {self.user.heads}")
        return self


class Optimizer(Strict):
    """Adam with decoupled weight decay; the rate warms up linearly, then falls along a cosine to `final_share`."""

    learning_rate: float = Field(4e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    final_share: float = Field(0.02, ge=0, le=1)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    beta_2: float = Field(0.999, gt=0, lt=1)
    clip_norm: float | None = Field(None, gt=0, description="largest global norm of a step's gradient")


class Evaluation(Strict):
    """Ranking of the whole catalogue for each held-out click."""

    exclude_history: bool = Field(True, description="leave out what the user had before; false where people buy again")
    best_by: BestBy = Field(
        "recall", description="validation metric of the best epoch; recall is the mean of @10, @50, @100"
    )
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a better one")
    validation_clicks: int | None = Field(20_000, ge=1, description="at most so many, evenly spaced, after each epoch")


class Export(Strict):
    """What goes into a model's folder beside the towers."""

    users: int = Field(
        10_000, ge=0, description="at most so many held-out users, with what they had, for `recommend`; 0: nobody's"
    )


class Configuration(Strict):
    """The whole configuration of `python -m trainer train`."""

    model: Model = Model()
    loss: Loss = SoftmaxCrossEntropy()
    optimizer: Optimizer = Optimizer()
    evaluation: Evaluation = Evaluation()
    export: Export = Export()
    epochs: int = Field(12, ge=1)
    batch: int = Field(512, ge=1, description="clicks a step where records are rows; a block is a step by itself")
    shuffle_records: int = Field(
        16_384, ge=1, description="records in the shuffle buffer; at most 256 where they are blocks"
    )
    seed: int = Field(42, ge=0, lt=2**31)
    precision: Literal["float32", "bfloat16"] = "float32"
    jit: bool | None = Field(None, description="compile the step with XLA; null: where the loss can be")

    @property
    def compiled(self) -> bool:
        """Whether XLA compiles the step."""
        return not self.loss.draws_in_graph if self.jit is None else self.jit

    @model_validator(mode="after")
    def _together(self) -> "Configuration":
        if self.loss.needs_matrix and self.model.item.kind != "matrix":
            raise ValueError(
                f"loss.kind {self.loss.kind} is over a matrix of items with a bias each; set model.item.kind: matrix"
            )
        if self.jit and self.loss.draws_in_graph:
            raise ValueError(
                f"jit: true cannot be with loss.kind {self.loss.kind}, which draws candidates in the graph, as XLA has "
                "no candidate samplers; leave jit null"
            )
        return self
