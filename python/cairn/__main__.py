"""python -m cairn TOOL ARGUMENT...: runs kv-offload or store-inspect, as installed with the package
or else from the PATH."""

import os
import shutil
import sys
from pathlib import Path

TOOLS = ("kv-offload", "store-inspect")


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in TOOLS:
        print(f"usage: python -m cairn {{{','.join(TOOLS)}}} ARGUMENT...", file=sys.stderr)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    tool = sys.argv[1]
    beside = Path(__file__).parent / "bin" / tool
    path = str(beside) if beside.exists() else shutil.which(tool)
    if path is None:
        print(f"{tool} is neither in {beside.parent} nor on the PATH", file=sys.stderr)
        return 127
    os.execv(path, [tool, *sys.argv[2:]])


if __name__ == "__main__":
    sys.exit(main())
