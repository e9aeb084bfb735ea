"""``python -m fcis_tf`` is the command ``fcis``."""

from fcis_tf.cli import main

if __name__ == "__main__":
    main()
