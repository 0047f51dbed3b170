"""Show a folder on http://localhost:PORT.

python tools/serve.py FOLDER PORT
"""

import functools
import http.server
import sys


def main(folder, port):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    try:
        server = http.server.ThreadingHTTPServer(("localhost", int(port)), handler)
    except OSError as error:
        return f"port {port} cannot be used ({error.strerror}): try make serve PORT={int(port) + 1}"
    print(f"http://localhost:{port} shows {folder}; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
