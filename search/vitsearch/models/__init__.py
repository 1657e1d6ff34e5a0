"""What all backbones share: the protocol of a family, surgery on layers, divergences."""
