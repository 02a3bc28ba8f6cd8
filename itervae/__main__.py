"""`python -m itervae`."""

from itervae.cli import main

if __name__ == "__main__":
    main()
