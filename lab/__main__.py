"""Entry point of `lab` and of `python -m lab`."""


def main() -> None:
    """Run the command line of the lab. Its imports take seconds; see `lab.startup`."""
    import sys

    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

    if sys.argv[1:2] == ["play"]:
        from lab.play.command import main as run_play

        run_play()
        return

    from lab.exercises.commands import COMMANDS
    from lab.exercises.commands import main as run_exercises

    if sys.argv[1:2] and sys.argv[1] in COMMANDS:  # they do without the libraries that the others need
        run_exercises()
        return
    from lab.command_line import main as run_command

    run_command()


if __name__ == "__main__":
    main()
