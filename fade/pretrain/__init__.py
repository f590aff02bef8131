"""The embedded world: a miniature Stable Diffusion on real drawings. All choices here are ours."""
