"""`python -m trax_ray`: the same as the command `trax-ray`."""

from trax_ray.cli.entry import main

if __name__ == "__main__":
    main()
