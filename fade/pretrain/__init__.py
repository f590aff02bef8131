"""The embedded world: a miniature Stable Diffusion on real drawings, made by ``fade pretrain``. All choices
here are ours."""
