"""What is wrong with the settings, in words that name the variable."""

from pydantic import ValidationError


def setting_problems(error: ValidationError) -> list[str]:
    """One clause for each setting of the environment that is wrong, named as its variable."""
    return [
        f"{'_'.join(('PRUNERY', *map(str, problem['loc']))).upper()}: {problem['msg']}"
        for problem in error.errors()
    ]
