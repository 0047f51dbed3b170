"""Run one step of a target: say how long it took, or what to do when it failed.

python tools/step.py TARGET NAME ADVICE COMMAND...
"""

import signal
import subprocess
import sys
import time

_INTERRUPTED = {signal.SIGINT, signal.SIGTERM}


def main(target, name, advice, *command):
    start = time.monotonic()
    running = None

    def pass_on(number, frame):
        # A terminal sends Ctrl-C to the step itself, too; SIGTERM reaches only this process.
        if number == signal.SIGTERM and running:
            running.terminate()

    for number in _INTERRUPTED:
        signal.signal(number, pass_on)
    running = subprocess.Popen(command)
    # Not wait(): a signal that came just before it would be noticed only after it.
    while (code := running.poll()) is None:
        time.sleep(0.05)
    if code == 0:
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    elif -code in _INTERRUPTED or code - 128 in _INTERRUPTED:
        return code if code > 0 else 128 - code
    else:
        print(f"make {target}: {name} failed. {advice}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
