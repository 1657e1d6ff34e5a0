"""What the families of the user's networks share: each has one network, under its name."""

from __future__ import annotations

from typing import Generic, TypeVar

from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Network

N = TypeVar("N", bound=Network)


class SingleNetwork(Generic[N]):
    """A family of one network; see `vitsearch.models.backbone.Backbone`.

    Args:
        network: The network.
    """

    def __init__(self, network: N) -> None:
        self.network = network
        self.family = network.name

    def claims(self, name: str) -> bool:
        return name == self.network.name

    def variants(self) -> tuple[str, ...]:
        return (self.network.name,)

    def native_resolution(self, name: str) -> ImageSize:
        return self.network.resolution
