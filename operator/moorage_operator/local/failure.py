"""Why `moorage up` cannot go on."""


class UpError(Exception):
    """A sentence that names the next step, for the person who typed the command. `exit_code` as in the CLI."""

    exit_code = 1


class InputError(UpError):
    """What was given is wrong; nothing was started."""

    exit_code = 2
