"""`python -m itervae`."""

if __name__ == "__main__":
    try:
        from itervae.cli import main

        main()
    except KeyboardInterrupt:  # between its first lines
        raise SystemExit(130) from None
