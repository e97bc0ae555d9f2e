import http.server, socketserver, json, os, re, sys, urllib.parse
OBJ = json.load(open(sys.argv[2]))
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def address_string(self): return "x"
    def do_HEAD(self): self.do_GET()
    def do_POST(self): self.do_GET()
    def do_DELETE(self): self.do_GET()
    def do_GET(self):
        path = urllib.parse.urlparse(self.path).path
        path = re.sub(r"^/v1\.\d+", "", path)
        code, body = 404, {"message": "page not found"}
        if path == "/_ping":
            code, raw = 200, b"OK"
        else:
            if path in OBJ:
                code, body = 200, OBJ[path]
                if isinstance(body, dict) and "__code" in body:
                    code, body = body["__code"], {"message": body["message"]}
            else:
                m = re.match(r"/containers/([^/]+)", path)
                if m: body = {"message": "No such container: " + m.group(1)}
                m = re.match(r"/images/([^/]+)", path)
                if m: body = {"message": "No such image: " + m.group(1) + (":latest" if ":" not in m.group(1) else "")}
                m = re.match(r"/networks/([^/]+)", path)
                if m: body = {"message": "network " + m.group(1) + " not found"}
                m = re.match(r"/volumes/([^/]+)", path)
                if m: body = {"message": "get " + m.group(1) + ": no such volume"}
            raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Api-Version", "1.48"); self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(raw)
class S(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    def get_request(self):
        r, _ = super().get_request(); return r, ("x", 0)
if os.path.exists(sys.argv[1]): os.unlink(sys.argv[1])
S(sys.argv[1], H).serve_forever()
