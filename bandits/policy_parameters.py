"""Parameters that several policies declare alike."""

from typing import Annotated

from msgspec import Meta

PriorSuccesses = Annotated[
    float,
    Meta(
        ge=0.1,
        le=1e6,
        title="Prior successes",
        description="Successes of each arm assumed before the first real one: the prior's α.",
    ),
]
PriorFailures = Annotated[
    float,
    Meta(
        ge=0.1,
        le=1e6,
        title="Prior failures",
        description="Failures of each arm assumed before the first real one: the prior's β.",
    ),
]
RidgePenalty = Annotated[
    float,
    Meta(
        ge=1e-3,
        le=1e6,
        title="Ridge penalty",
        description="λ: how many observations' worth of doubt each weight starts with.",
    ),
]
Spread = Annotated[
    float,
    Meta(
        ge=1e-6,
        le=100,
        title="Spread",
        description="How uncertain to be of weights: 1 is as the model says, less is bolder.",
    ),
]
