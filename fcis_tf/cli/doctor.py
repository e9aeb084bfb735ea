"""fcis doctor: check the installation."""

import typer


def doctor() -> None:
    """Check the installation, and suggest fixes."""
    from fcis_tf.doctor import examine

    report, sound = examine()
    print(report)
    raise typer.Exit(0 if sound else 1)
