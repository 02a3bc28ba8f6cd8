"""The priors of the families of latents, a file a family."""
