"""From a model's name to its weights: catalog, Hub, files."""
