"""The work of the commands, a file each: what needs torch, and is imported once all options are
found right."""
