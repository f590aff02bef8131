"""The Concept Neighborhood, the image encoder that measures it, purification."""
