"""Pictures and latents by prompt, made in batches and kept by content."""
