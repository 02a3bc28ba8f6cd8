"""The families of latents: of each the prior and the settings of the model that has it, a file a
family."""
