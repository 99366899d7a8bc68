"""Entry point of `lab` and of `python -m lab`."""


def main() -> None:
    """Run the command line of the lab. Its imports take seconds; see `lab.startup`."""
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load
    from lab.command_line import main as run_command

    run_command()


if __name__ == "__main__":
    main()
