"""`python -m jaxgmm` is the command `jaxgmm`."""

from jaxgmm.cli import main

if __name__ == "__main__":
    main()
