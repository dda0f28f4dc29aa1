"""Train with class weights, margins or balanced sampling; `--help` lists the flags."""

import sys

from mvfouls.cli.class_weights import main

if __name__ == "__main__":
    sys.exit(main())
