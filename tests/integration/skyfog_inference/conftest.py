"""Random models, made once."""

from support.inference import model_folder, one_thread

__all__ = ["model_folder", "one_thread"]
