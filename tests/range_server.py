"""A small HTTP server for test_get_data.sh: byte ranges, and servers as bad as real ones.

usage: range_server.py ROOT LOG      prints its port; appends a line "PATH RANGE" to LOG for each request

/good/F   the file ROOT/F, with ranges
/drop/F   at most 1,000 bytes a connection, which then breaks
/whole/F  ignores ranges
/busy/F   every other request is answered 503
"""
import http.server
import os
import sys

ROOT, LOG = sys.argv[1:3]


class Handler(http.server.BaseHTTPRequestHandler):
    requests = 0

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked = self.headers.get("Range", "")
        with open(LOG, "a") as log:
            log.write(self.path + " " + asked + "\n")
        Handler.requests += 1
        _, mode, name = self.path.split("/", 2)
        path = os.path.join(ROOT, os.path.basename(name))
        if not os.path.isfile(path):
            return self.send_error(404)
        if mode == "busy" and Handler.requests % 2 == 1:
            return self.send_error(503)
        with open(path, "rb") as file:
            data = file.read()
        start = 0
        if asked.startswith("bytes=") and mode != "whole":
            start = int(asked[6:].split("-")[0])
            if start >= len(data):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, len(data) - 1, len(data)))
        self.end_headers()
        rest = data[start:]
        self.wfile.write(rest[:1000] if mode == "drop" else rest)
        self.close_connection = True


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
