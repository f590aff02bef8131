"""FADE: fine-grained attenuation for diffusion erasure (CVPR 2025), and the science around it.

Nothing here imports the plumbing (Prefect, MLflow, DVC, Great Expectations); see ``tasks`` and ``flows`` for
that."""

__version__ = "0.1.0"
