"""The diffusion model: loading, encoding, prediction, decoding, sampling."""
