"""A tiny suite of models, trained on text that every Python carries: the main job with no network."""
