"""Models as the other packages see them: the protocol of a family, surgery on layers, divergence of outputs."""
