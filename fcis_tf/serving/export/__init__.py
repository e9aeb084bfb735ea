"""Writing and checking a SavedModel."""
