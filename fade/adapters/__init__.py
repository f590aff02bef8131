"""Adapters: LoRA on the UNet (the paper's Mesh Module), sums of adapters, gating."""
