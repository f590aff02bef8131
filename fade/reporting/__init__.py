"""The evidence of one run, made readable: pictures, an HTML page, a model card. Never computes a metric."""
