"""``python -m crnn_cli`` is ``crnn``."""

from crnn_cli.cli.app import main

if __name__ == "__main__":
    main()
