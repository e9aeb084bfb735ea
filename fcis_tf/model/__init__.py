"""The network: backbone, region proposals, score maps, and what is read from them."""
