def test_gx():
    import great_expectations
def test_others():
    import prefect, prefect.testing.utilities
    import dvc.repo
def test_mlflow():
    import mlflow
def test_torch():
    import torch, diffusers, transformers, peft, accelerate
    from tests.support import make_tiny_base
def test_base(tiny_base_dir):
    from diffusers import StableDiffusionPipeline
    StableDiffusionPipeline.from_pretrained(tiny_base_dir)
