"""fcis doctor: check the installation."""

import typer


def doctor() -> None:
    """Say what of this environment works, and what to do about the rest."""
    from fcis_tf.doctor import examine

    report, sound = examine()
    print(report)
    raise typer.Exit(0 if sound else 1)
